#include "kinora/kinora.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "kinora/tensor/device.h"
#include "kinora/tensor/libtorch.h"
#include "kinora/video/pipeline.h"

namespace kinora {
namespace {

namespace fs = std::filesystem;

static_assert(static_cast<int>(Stage::load) == static_cast<int>(video::Stage::load) &&
              static_cast<int>(Stage::encode) == static_cast<int>(video::Stage::encode) &&
              static_cast<int>(Stage::condition) == static_cast<int>(video::Stage::condition) &&
              static_cast<int>(Stage::denoise) == static_cast<int>(video::Stage::denoise) &&
              static_cast<int>(Stage::decode) == static_cast<int>(video::Stage::decode));

/// Runs `work`. LibTorch's exceptions mean nothing to who has not its headers.
template <typename Work>
auto guarded(const Work& work) {
  constexpr const char* kMemoryHint = "take smaller sizes (frames, height, width, batch), or free memory";
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    throw ResourceError("out of memory", kMemoryHint);
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    // Of the CPU's allocator.
    if (what.find("can't allocate memory") != std::string::npos) throw ResourceError("out of memory", kMemoryHint);
    throw std::runtime_error(what);
  } catch (const fs::filesystem_error& error) {
    // A folder that this user may not look into, a loop of links.
    throw ResourceError(concat("'", error.path1().string(), "' cannot be used: ", error.code().message()),
                        "see whether this user may look into it, and into the folders above");
  } catch (const std::bad_alloc&) {
    throw ResourceError("out of memory", kMemoryHint);
  }
}

/// Installed, the library is PREFIX/lib/libkinora.so.
fs::path builtin_model() {
  if (const char* chosen = std::getenv("KINORA_MODEL"); chosen != nullptr && *chosen != '\0') return chosen;
  Dl_info library{};
  std::error_code failed;
  if (::dladdr(reinterpret_cast<const void*>(&version), &library) != 0 && library.dli_fname != nullptr) {
    const fs::path home = fs::weakly_canonical(library.dli_fname, failed).parent_path();
    for (const char* place : {"../share/kinora/shapes", "../../share/kinora/shapes"}) {
      fs::path folder = (home / place).lexically_normal();
      if (fs::exists(folder / "model_index.json", failed)) return folder;
    }
  }
  throw UsageError("the built-in model is not beside the library", "name a folder in Model, or set KINORA_MODEL");
}

std::optional<at::ScalarType> dtype_of(Dtype dtype, at::Device device) {
  switch (dtype) {
    case Dtype::automatic: return video::preferred_dtype(device);
    case Dtype::float32: return at::kFloat;
    case Dtype::bfloat16: return at::kBFloat16;
  }
  throw UsageError("the dtype is none", "choose one of Dtype");
}

video::PipelineOptions options_of(const Model& model) {
  video::PipelineOptions out;
  out.device = parse_device(model.device);
  out.dtype = dtype_of(model.dtype, out.device);
  out.offload = video::parse_offload(model.offload);
  out.host_memory = model.host_memory_bytes;
  out.quantize = video::parse_quantize(model.quantize);
  for (const Adapter& adapter : model.adapters) out.adapters.push_back({adapter.path, adapter.strength});
  out.paths = {model.folder, model.transformer, model.vae, model.text_encoder, model.tokenizer};
  if (model.folder.empty() && model.transformer.empty()) out.paths.model = builtin_model();
  return out;
}

video::ReferencePtr reference_of(std::string name, const media::Frames& frames) {
  media::check(frames);
  return std::make_shared<video::Reference>(video::Reference{std::move(name), frames});
}

video::Request request_of(const Request& r) {
  video::Request out;
  out.prompts = r.prompts;
  out.negative_prompt = r.negative_prompt;
  out.height = r.height, out.width = r.width;
  out.resolution = r.resolution, out.aspect_ratio = r.aspect_ratio;
  out.num_frames = r.num_frames;
  out.steps = r.steps;
  out.guidance_scale = r.guidance_scale;
  out.seed = r.seed;
  out.fps = r.fps;
  if (r.aesthetic_score || r.motion_score || r.camera_motion) {
    text::PromptScores scores;
    if (r.aesthetic_score) scores.aesthetic = r.aesthetic_score;
    scores.motion = r.motion_score;
    scores.camera_motion = r.camera_motion;
    out.scores = scores;
  }
  for (size_t i = 0; i < r.references.size(); ++i)
    out.references.push_back(reference_of(concat("reference ", i), r.references[i]));
  out.mask_strategy = r.mask_strategy;
  if (r.before) out.before = reference_of("the clip before", *r.before);
  if (r.after) out.after = reference_of("the clip after", *r.after);
  out.loops = r.loops;
  out.seamless = r.seamless;
  out.condition_frames = r.condition_frames;
  out.condition_edit = r.condition_edit;
  out.cache = r.cache, out.cache_memory = r.cache_memory_bytes;
  out.batch = r.batch;
  out.memory = r.memory_bytes, out.chunk = r.chunk;
  return out;
}

video::Hooks hooks_of(const Hooks& hooks) {
  video::Hooks out;
  if (hooks.on_progress) {
    out.on_progress = [&hooks](video::Stage stage, int64_t done, int64_t total) {
      hooks.on_progress(static_cast<Stage>(stage), done, total);
    };
  }
  out.on_frames = hooks.on_frames;
  out.on_preview = hooks.on_preview;
  out.preview_every = hooks.preview_every;
  out.cancel = hooks.cancel;
  return out;
}

Latents latents_of(const at::Tensor& latents) {
  Latents out;
  if (!latents.defined() || latents.dim() != 4) return out;
  std::copy_n(latents.sizes().begin(), 4, out.shape.begin());
  const at::Tensor rows = latents.to(at::kCPU, at::kFloat).contiguous();
  out.values.assign(rows.const_data_ptr<float>(), rows.const_data_ptr<float>() + rows.numel());
  return out;
}

std::vector<Clip> clips_of(std::vector<video::Clip> made) {
  std::vector<Clip> out;
  out.reserve(made.size());
  for (video::Clip& clip : made)
    out.push_back({std::move(clip.frames), latents_of(std::exchange(clip.latents, {})), std::move(clip.metadata)});
  return out;
}

}  // namespace

const char* version() noexcept { return KINORA_VERSION; }

void set_num_threads(int threads) {
  if (threads < 1 || threads > 1024)
    throw UsageError(concat("there cannot be ", threads, " threads"), "choose 1 to 1024");
  at::set_num_threads(threads);
}

const char* stage_name(Stage stage) noexcept { return video::stage_name(static_cast<video::Stage>(stage)); }

struct Pipeline::Impl {
  video::Pipeline pipeline;
};

Pipeline::Pipeline(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;
Pipeline::~Pipeline() = default;

Pipeline Pipeline::load(const Model& model) {
  check_libtorch();
  return guarded([&] { return Pipeline(std::make_unique<Impl>(Impl{video::Pipeline::load(options_of(model))})); });
}

Plan Pipeline::plan(const Request& request) const {
  return guarded([&] {
    const video::Plan plan = impl_->pipeline.plan(request_of(request));
    const video::MemoryEstimate memory = video::estimate_memory(impl_->pipeline.sizes(), plan);
    const auto [height, width] = impl_->pipeline.frame_size(plan);
    return Plan{.clips = static_cast<int64_t>(plan.prompts.size()),
                .frames = plan.total_frames(),
                .height = height,
                .width = width,
                .steps = plan.steps,
                .batch = plan.batch,
                .guidance_scale = plan.guidance_scale,
                .fps = plan.fps,
                .seed = plan.seed,
                .peak_bytes = plan.one_by_one ? memory.one_by_one() : memory.together()};
  });
}

std::vector<Clip> Pipeline::generate(const Request& request, const Hooks& hooks) {
  return guarded([&] {
    video::Request asked = request_of(request);
    video::Hooks with = hooks_of(hooks);
    asked.keeps_clips = !hooks.on_frames;
    video::Job job;
    std::error_code failed;
    if (!request.job.empty() && fs::exists(request.job, failed)) job = video::read_job(request.job);
    // A seed that was drawn is the job's.
    if (!asked.seed && job.settings.contains("seed") && job.settings.at("seed").is_number_unsigned())
      asked.seed = job.settings.at("seed").get<uint64_t>();
    const video::Plan plan = impl_->pipeline.plan(asked);
    video::JobFile file(request.job, {});
    if (!job.latents.empty()) file.begin_with(job);
    if (!request.job.empty()) with.on_job = [&file](const video::Job& now) { file.note(now); };
    try {
      std::vector<Clip> clips = clips_of(impl_->pipeline.generate(plan, with, std::move(job)));
      if (!request.keeps_job) file.remove();
      return clips;
    } catch (...) {
      file.keep();
      throw;
    }
  });
}

std::vector<Clip> Pipeline::decode(const fs::path& job, const Hooks& hooks, uint64_t memory_bytes) {
  return guarded([&] {
    video::Job done = video::read_job(job);
    video::Plan plan = impl_->pipeline.plan(done, memory_bytes);
    plan.keeps_clips = !hooks.on_frames;
    return clips_of(impl_->pipeline.generate(plan, hooks_of(hooks), std::move(done)));
  });
}

}  // namespace kinora
