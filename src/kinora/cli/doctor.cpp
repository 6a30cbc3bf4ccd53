// kinora doctor: what this machine has for Kinora, and whether the whole path from prompt to frames works on it.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <thread>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/bench.h"
#include "kinora/cli/model_options.h"
#include "kinora/media/ffmpeg.h"
#include "kinora/tensor/libtorch.h"
#include "kinora/tensor/safetensors.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kLowMemoryBytes = uint64_t{1} << 30, kLowDiskBytes = uint64_t{1} << 30;

enum class Verdict { ok, warn, fail };

struct Finding {
  std::string name;
  Verdict verdict = Verdict::ok;
  std::string text, hint;
  Json facts = Json::object();
};

const char* word(Verdict verdict) {
  static constexpr const char* kWords[] = {"ok", "warn", "fail"};
  return kWords[static_cast<int>(verdict)];
}

/// What stands behind "key" in a file of lines "key : value", such as /proc/cpuinfo; the first of them.
std::string value_in(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.find_first_not_of(" \t", key.size()) != colon) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

Finding version() { return {.name = "kinora", .text = KINORA_VERSION, .facts = {{"version", KINORA_VERSION}}}; }

Finding libtorch() {
  const std::string version = running_libtorch();
  return {.name = "libtorch", .text = version, .facts = {{"version", version}}};
}

Finding processor() {
  std::string model = value_in("/proc/cpuinfo", "model name");
  if (model.empty()) model = "unknown processor";
  std::istringstream flags(" " + value_in("/proc/cpuinfo", "flags"));
  std::vector<std::string> isa;
  // The kernel names what it lets programs use: an instruction that it has switched off is not listed.
  for (std::string flag; flags >> flag;) {
    for (const char* wanted : {"avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16"}) {
      if (flag == wanted) isa.push_back(flag);
    }
  }
  const auto has = [&isa](const char* name) { return std::find(isa.begin(), isa.end(), name) != isa.end(); };
  const unsigned cores = std::thread::hardware_concurrency();
  Finding f{.name = "cpu",
            .text = concat(printable(model), ", ", cores, cores == 1 ? " core, " : " cores, ", at::get_num_threads(),
                           " threads;")};
  for (const std::string& name : isa) f.text += " " + name;
  if (isa.empty()) f.text += " no AVX";
#if defined(__x86_64__)
  if (!has("avx2") || !has("fma"))
    f.verdict = Verdict::warn,
    f.hint = "without AVX2 and FMA the operators are many times slower; take a newer machine";
#endif
  f.facts = {{"model", model},
             {"cores", cores},
             {"threads", at::get_num_threads()},
             {"isa", isa},
             {"bfloat16", has("avx512_bf16") || has("amx_bf16")}};
  return f;
}

Finding memory() {
  const uint64_t total = std::strtoull(value_in("/proc/meminfo", "MemTotal").c_str(), nullptr, 10) * 1024;
  const uint64_t available = available_memory_bytes();
  Finding f{.name = "memory", .text = concat(human_bytes(available), " free of ", human_bytes(total))};
  f.facts = {{"total_bytes", total}, {"available_bytes", available}};
  if (available < kLowMemoryBytes)
    f.verdict = Verdict::warn, f.hint = "clips larger than the built-in model's need more: end other programs";
  return f;
}

fs::path temp_folder() {
  std::error_code failed;
  const fs::path folder = fs::temp_directory_path(failed);
  if (failed) throw ResourceError("there is no folder for temporary files", "set TMPDIR to a folder that is there");
  return folder;
}

Finding disk() {
  const fs::path folder = temp_folder();
  std::error_code failed;
  const fs::space_info space = fs::space(folder, failed);
  if (failed) throw ResourceError(concat("'", folder.string(), "': ", failed.message()));
  Finding f{.name = "disk", .text = concat(human_bytes(space.available), " free in ", folder.string())};
  f.facts = {{"folder", folder.string()}, {"available_bytes", space.available}};
  if (space.available < kLowDiskBytes)
    f.verdict = Verdict::warn, f.hint = "free some space, or set TMPDIR to a folder on another disk";
  return f;
}

/// Names of the GPUs that NVIDIA's driver knows, whether or not this build can use them.
std::vector<std::string> driver_gpus() {
  std::vector<std::string> names;
  std::error_code failed;
  for (fs::directory_iterator gpu("/proc/driver/nvidia/gpus", failed), end; !failed && gpu != end;
       gpu.increment(failed))
    names.push_back(printable(value_in((gpu->path() / "information").c_str(), "Model")));
  return names;
}

Finding gpu() {
  const auto& cuda = at::detail::getCUDAHooks();
  const bool has_cuda = cuda.hasCUDART();
  const int count = has_cuda ? cuda.deviceCount() : 0;
  const std::vector<std::string> names = driver_gpus();
  Finding f{.name = "gpu"};
  f.text = concat(has_cuda ? "CUDA build, " : "build without CUDA, ");
  if (has_cuda)
    f.text += concat(count, count == 1 ? " device" : " devices");
  else
    f.text += names.empty() ? "no GPU seen" : concat(names.size(), " in this machine");
  for (const std::string& name : names) f.text += (&name == &names.front() ? ": " : ", ") + name;
  f.facts = {{"cuda", has_cuda}, {"devices", count}, {"driver_gpus", names}};
  if (!has_cuda && !names.empty())
    f.verdict = Verdict::warn, f.hint = "build with -DKINORA_CUDA=ON to use it (CONTRIBUTING.md)";
  if (has_cuda && count == 0)
    f.verdict = Verdict::warn, f.hint = "no driver or no device: see what nvidia-smi says; the CPU works meanwhile";
  return f;
}

Finding ffmpeg() {
  const std::string version = media::ffmpeg_version();
  media::require_h264();
  return {.name = "ffmpeg", .text = version + ", with libx264", .facts = {{"version", version}, {"libx264", true}}};
}

Finding model_found() {
  const fs::path folder = builtin_model();
  if (!fs::exists(folder / "model_index.json"))
    throw UsageError(concat("'", folder.string(), "' has no model_index.json"),
                     "set KINORA_MODEL to a model's folder, or unset it for the built-in model");
  return {.name = "model", .text = folder.string(), .facts = {{"path", folder.string()}}};
}

/// Whether a row of a product has the same bits whatever stands beside it, as pieces and ranks want it.
bool has_equal_rows(at::ScalarType dtype) {
  constexpr int64_t kRows = 1024, kSum = 4608, kFeatures = 1152;
  // As uneven as drawn numbers, and always the same: sums of smooth ones hide what differs.
  const auto numbers = [&](int64_t rows) {
    return at::sin(at::arange(rows * kSum, at::kDouble) * 12.9898).view({rows, kSum}).to(dtype);
  };
  const at::Tensor x = numbers(kRows), w = numbers(kFeatures), whole = at::linear(x, w);
  for (int64_t rows = 16; rows < kRows; rows *= 2) {
    if (!at::linear(x.narrow(0, kRows - rows, rows), w).equal(whole.narrow(0, kRows - rows, rows))) return false;
  }
  return true;
}

Finding products() {
  const at::NoGradGuard no_grad;
  constexpr int64_t kSide = 1024;
  constexpr double kFlops = 2.0 * kSide * kSide * kSide;
  const auto rate = [](at::ScalarType dtype) {
    const at::Tensor x = at::ones({kSide, kSide}, dtype);
    return kFlops / best_seconds([&x] { at::linear(x, x); }, 2) * 1e-9;
  };
  const double f32 = rate(at::kFloat), bf16 = rate(at::kBFloat16);
  Finding f{.name = "product"};
  f.text =
      concat("matrix products reach ", std::lround(f32), " GFLOP/s in float32, ", std::lround(bf16), " in bfloat16");
  const bool is_equal = has_equal_rows(at::kFloat), is_equal_bf16 = has_equal_rows(at::kBFloat16);
  f.text += is_equal && is_equal_bf16
                ? "; few rows get the bits of many"
                : concat("; few rows differ from many in last bits in ", is_equal        ? "bfloat16"
                                                                         : is_equal_bf16 ? "float32"
                                                                                         : "both");
  f.facts = {{"float32_gflops", f32},
             {"bfloat16_gflops", bf16},
             {"equal_rows", {{"float32", is_equal}, {"bfloat16", is_equal_bf16}}}};
  return f;
}

/// A file in the folder for temporary files that goes when this does.
class TempFile {
 public:
  explicit TempFile(const char* name)
      : path_(temp_folder() / concat(name, "-", std::chrono::steady_clock::now().time_since_epoch().count(), "-",
                                     ::getpid(), ".safetensors")) {}
  ~TempFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

Finding files() {
  const TempFile file("kinora-doctor");
  std::vector<std::byte> values(size_t{1} << 20);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::byte>(i * 31 % 251);
  const TensorBytes tensor{"values", DType::U8, {static_cast<int64_t>(values.size())}, values};
  write_safetensors(file.path(), {&tensor, 1});
  const SafetensorsFile back(file.path());
  const TensorEntry* entry = back.find("values");
  const auto got = entry != nullptr ? back.bytes(*entry) : std::span<const std::byte>();
  if (!std::equal(got.begin(), got.end(), values.begin(), values.end()))
    throw ResourceError("a file came back with other bytes than were written", "check the disk");
  return {.name = "files", .text = "safetensors written and read back in " + temp_folder().string()};
}

Finding generation(Context& context) {
  constexpr int64_t kSteps = 2;
  const auto begin = std::chrono::steady_clock::now();
  ModelOptions options;
  video::Pipeline pipeline = video::Pipeline::load(pipeline_options(options, &context.ledger));
  video::Request request;
  request.prompts = {"a red ball moves to the right"};
  request.num_frames = 5, request.steps = kSteps, request.seed = 1;
  video::Hooks hooks;
  hooks.cancel = context.cancel;
  const media::Frames frames = pipeline.generate(request, hooks).at(0).frames;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  Finding f{.name = "generate"};
  std::ostringstream text;
  text << frames.frames << " frames of " << frames.height << "x" << frames.width << " at " << kSteps << " steps in "
       << std::fixed << std::setprecision(1) << seconds << " s";
  f.text = text.str();
  f.facts = {{"num_frames", frames.frames}, {"height", frames.height}, {"width", frames.width}, {"seconds", seconds}};
  return f;
}

template <typename Check>
Finding checked(const char* name, const Check& check) {
  try {
    return check();
  } catch (const CancelledError&) {
    throw;
  } catch (const Error& error) {
    return {.name = name, .verdict = Verdict::fail, .text = error.what(), .hint = error.hint()};
  } catch (const std::exception& error) {  // whatever a machine that is not in order makes a library throw
    return {.name = name, .verdict = Verdict::fail, .text = error.what(), .hint = "please report this"};
  }
}

std::string one_line(const std::string& text) { return printable(text.substr(0, text.find('\n')), 300); }

void print(const Finding& f) {
  std::cout << std::left << std::setw(6) << word(f.verdict) << std::setw(10) << f.name << one_line(f.text) << "\n";
  if (!f.hint.empty()) std::cout << std::setw(16) << "" << one_line(f.hint) << "\n";
  std::cout.flush();
}

int doctor(bool json, Context& context) {
  Json findings = Json::array();
  int failed = 0;
  const auto look = [&](const char* name, const auto& check) {
    if (context.cancel.stop_requested()) throw CancelledError();
    const Finding f = checked(name, check);
    failed += f.verdict == Verdict::fail;
    findings.push_back(
        {{"name", f.name}, {"verdict", word(f.verdict)}, {"text", f.text}, {"hint", f.hint}, {"facts", f.facts}});
    if (!json) print(f);
  };
  look("kinora", version);
  look("libtorch", libtorch);
  look("cpu", processor);
  look("memory", memory);
  look("disk", disk);
  look("gpu", gpu);
  look("ffmpeg", ffmpeg);
  look("model", model_found);
  look("product", products);
  look("files", files);
  look("generate", [&context] { return generation(context); });
  if (json)
    print_json({{"ok", failed == 0}, {"failed", failed}, {"findings", findings}});
  else
    std::cout << (failed == 0 ? "ready" : concat(failed, failed == 1 ? " check" : " checks", " failed")) << "\n";
  return failed == 0 ? 0 : ResourceError("").exit_code();
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  auto json = std::make_shared<bool>(false);
  CLI::App* c = app.add_subcommand("doctor", "look at this machine and try everything once, in seconds");
  c->footer("Example: kinora doctor");
  c->add_flag("--json", *json, "print one JSON object");
  c->callback([json, &action] { action = [json](Context& context) { return doctor(*json, context); }; });
}

}  // namespace kinora::cli
