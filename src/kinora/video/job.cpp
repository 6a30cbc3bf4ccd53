#include "kinora/video/job.h"

#include <signal.h>

#include <cerrno>
#include <charconv>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/utf8.h"
#include "kinora/tensor/convert.h"

namespace kinora::video {
namespace {

namespace fs = std::filesystem;

constexpr const char* kKey = "kinora.job";
constexpr int64_t kFormat = 1;
constexpr int64_t kMostClips = 4096;
constexpr size_t kMostJson = size_t{64} << 20;

std::string quoted(const fs::path& path) { return concat("'", printable(path.string(), 200), "'"); }

/// The tensors of a file by name, each read once and checked.
class Reader {
 public:
  explicit Reader(const fs::path& path) : path_(path), file_(std::make_shared<const SafetensorsFile>(path)) {}
  const SafetensorsFile& file() const { return *file_; }

  /// A copy; undefined when the file has no such tensor. Throws DataError for another type or number of dimensions.
  at::Tensor find(const std::string& name, int64_t dims, bool is_real) const {
    const TensorEntry* entry = file_->find(name);
    if (!entry) return {};
    const bool fits = static_cast<int64_t>(entry->shape.size()) == dims && entry->num_elements() > 0 &&
                      (is_real ? entry->dtype == DType::F32 || entry->dtype == DType::F64 : entry->dtype == DType::U8);
    if (!fits) {
      throw DataError(
          concat(quoted(path_), ": ", name, " is ", dtype_name(entry->dtype), " ", shape_text(entry->shape)),
          "a job of this program holds something else there");
    }
    at::Tensor tensor = load_tensor(file_, *entry).clone();  // the file may be replaced while it is in use
    if (is_real) check_finite(tensor, name, path_);
    return tensor;
  }
  at::Tensor require(const std::string& name, int64_t dims, bool is_real) const {
    at::Tensor tensor = find(name, dims, is_real);
    if (!tensor.defined()) throw DataError(concat(quoted(path_), " has no ", name), "the job is not whole");
    return tensor;
  }

 private:
  fs::path path_;
  std::shared_ptr<const SafetensorsFile> file_;
};

/// Temporaries (base/file.h) that a killed run left while it wrote this file: those of processes that are no more.
void remove_leftovers(const fs::path& path) {
  const std::string begin = concat(".", path.stem().string(), ".tmp-");
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(path.has_parent_path() ? path.parent_path() : ".", ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(begin) || entry.path().extension() != path.extension()) continue;
    int process = 0;
    const auto [end, failed] = std::from_chars(name.data() + begin.size(), name.data() + name.size(), process);
    if (failed != std::errc() || *end != '-' || process <= 0) continue;
    if (::kill(process, 0) != 0 && errno == ESRCH) fs::remove(entry.path(), ignored);
  }
}

}  // namespace

void write_job(const fs::path& path, const Job& job) {
  NamedTensors tensors;
  for (size_t i = 0; i < job.latents.size(); ++i) {
    if (job.latents[i].defined()) tensors.emplace_back(concat("latents.", i), job.latents[i]);
  }
  const Trajectory& trajectory = job.state.trajectory;
  if (job.state.latents.defined()) {
    tensors.emplace_back("group.latents", job.state.latents);
    for (size_t i = 0; i < trajectory.history.size(); ++i)
      tensors.emplace_back(concat("group.history.", i), trajectory.history[i]);
    for (size_t i = 0; i < job.generators.size(); ++i)
      tensors.emplace_back(concat("group.generator.", i), job.generators[i]);
    if (!job.state.joined.empty()) {
      tensors.emplace_back("group.joined", at::tensor(at::ArrayRef<uint8_t>(job.state.joined), at::kByte));
    }
  }
  const Json json = {
      {"format", kFormat},           {"settings", job.settings},       {"batch", job.batch},
      {"clips", job.latents.size()}, {"is_denoised", job.is_denoised}, {"pass", job.pass},
      {"first", job.first},          {"call", trajectory.call},        {"history", trajectory.history.size()}};
  save_tensors(path, tensors, {{kKey, json.dump(-1, ' ', true, Json::error_handler_t::replace)}});
}

Job read_job(const fs::path& path) {
  const Reader reader(path);
  const auto found = reader.file().metadata().find(kKey);
  if (found == reader.file().metadata().end()) {
    throw DataError(concat(quoted(path), " holds no latents of a clip"),
                    "give a file that --save-latents wrote, or the .job file beside an output");
  }
  const Json json = parse_json(found->second, {.max_bytes = kMostJson}, path.string());
  const JsonObject object(json, path.string());
  object.require_int("format", kFormat, kFormat);
  Job job;
  job.settings = object.require_object("settings").json();
  job.batch = object.require_int("batch", 1, kMostClips);
  job.latents.resize(static_cast<size_t>(object.require_int("clips", 1, kMostClips)));
  job.is_denoised = object.require_bool("is_denoised");
  job.pass = object.require_int("pass", 0);
  job.first = object.require_int("first", 0, static_cast<int64_t>(job.latents.size()) - 1);
  for (size_t i = 0; i < job.latents.size(); ++i) {
    const std::string name = concat("latents.", i);
    job.latents[i] = job.is_denoised ? reader.require(name, 4, true) : reader.find(name, 4, true);
  }
  job.state.latents = reader.find("group.latents", 5, true);
  if (job.state.latents.defined()) {
    job.state.trajectory.call = static_cast<int>(object.require_int("call", 0, 1 << 20));
    const int64_t count = job.state.latents.size(0), history = object.require_int("history", 0, 64);
    for (int64_t i = 0; i < history; ++i)
      job.state.trajectory.history.push_back(reader.require(concat("group.history.", i), 5, true));
    for (int64_t i = 0; i < count; ++i)
      job.generators.push_back(reader.require(concat("group.generator.", i), 1, false));
    const at::Tensor joined = reader.find("group.joined", 1, false);
    if (joined.defined())
      job.state.joined.assign(joined.const_data_ptr<uint8_t>(), joined.const_data_ptr<uint8_t>() + joined.numel());
  }
  reader.file().check_unchanged();
  return job;
}

void check_same_settings(const Json& job, const Json& request) {
  const auto value = [](const Json& of, const std::string& key) {
    const Json shown = of.contains(key) ? of.at(key) : Json("none");
    return shown.is_string() ? printable(shown.get<std::string>())
                             : printable(shown.dump(-1, ' ', true, Json::error_handler_t::replace));
  };
  Json all = job;
  all.update(request);
  for (const auto& [key, unused] : all.items()) {
    if (job.contains(key) && request.contains(key) && job.at(key) == request.at(key)) continue;
    throw UsageError(concat("the job is of another request: its ", key, " is ", value(job, key), ", here it is ",
                            value(request, key)),
                     "give the options of that job, or remove its file to begin anew");
  }
}

JobFile::JobFile(fs::path path, JobCadence cadence) : path_(std::move(path)), cadence_(cadence) {}

void JobFile::begin_with(const Job& job) {
  last_ = job;
  is_written_ = is_current_ = !path_.empty();
  if (is_written_) remove_leftovers(path_);
}

void JobFile::note(const Job& job) {
  last_ = job;
  is_current_ = false;
  ++steps_;
  const std::chrono::duration<double> since = std::chrono::steady_clock::now() - written_at_;
  const bool is_due = cadence_.steps > 0 ? steps_ % cadence_.steps == 0 : since.count() >= cadence_.seconds;
  if (is_due || job.is_denoised) write();
}

void JobFile::write() {
  if (path_.empty()) return;
  try {
    write_job(path_, last_);
    is_written_ = is_current_ = true;
    has_failed_ = false;
  } catch (const Error& error) {
    if (!has_failed_) log_warn(concat("the job could not be kept: ", error.what()));
    has_failed_ = true;
  }
  written_at_ = std::chrono::steady_clock::now();
}

bool JobFile::keep() noexcept {
  try {
    if (is_written_ && !is_current_ && !last_.settings.empty()) write();
  } catch (...) {  // the older state stays
  }
  return is_written_;
}

void JobFile::remove() noexcept {
  std::error_code ignored;
  if (is_written_) fs::remove(path_, ignored);
  is_written_ = false;
}

}  // namespace kinora::video
