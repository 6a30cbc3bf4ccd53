#include "kinora/video/pipeline.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/utf8.h"
#include "kinora/cache/choice.h"
#include "kinora/diffusion/schedulers.h"
#include "kinora/video/agreement.h"
#include "kinora/video/stages.h"

namespace kinora::video {
namespace {

constexpr int64_t kConditionFrames = 17;  // of an autoencoder without chunks; Open-Sora's is a chunk of as many

/// How many frames a pass is given at its ends, and that the clips there have as many.
void choose_ends(Plan& plan, const models::VideoVae& vae) {
  const bool needs_head = plan.passes() > 1 || plan.before, needs_tail = plan.seamless || plan.after;
  if (!needs_head && !needs_tail) {
    if (plan.condition_frames)
      throw UsageError("condition frames are given, but nothing that they could come from",
                       "they are of --extend, --join, --loops and --seamless");
    return;
  }
  const int64_t chunk = vae.config().micro_frame_size, ends = (needs_head ? 1 : 0) + (needs_tail ? 1 : 0);
  const auto cover = latent_cover(plan.num_frames, chunk, vae.temporal_downscale());
  // Open-Sora's five latent frames are one chunk; a shorter clip gives less, so that something new is left.
  const int64_t most =
      plan.condition_frames.value_or(std::min(chunk > 0 ? chunk : kConditionFrames, plan.num_frames / (1 + ends)));
  if (needs_head) plan.head = head_span(cover, most);
  if (needs_tail) plan.tail = tail_span(cover, most);
  if ((needs_head && plan.head.frames == 0) || (needs_tail && plan.tail.frames == 0)) {
    throw UsageError(concat(most, most == 1 ? " frame is" : " frames are", " less than a latent frame of this model"),
                     concat("give --condition-frames ", std::max(cover.front(), needs_tail ? cover.back() : 1),
                            " or more, and", " more --frames than that"));
  }
  if (plan.head.frames + plan.tail.frames >= plan.num_frames) {
    throw UsageError(concat("of ", plan.num_frames, " frames ", plan.head.frames + plan.tail.frames,
                            " would be given, and none made"),
                     "give more --frames, or less --condition-frames");
  }
  const auto check_length = [](const ReferencePtr& clip, int64_t frames) {
    if (!clip || clip->frames.frames >= frames) return;
    throw UsageError(
        concat("'", printable(clip->name, 200), "' has ", clip->frames.frames,
               clip->frames.frames == 1 ? " frame" : " frames", ", and ", frames, " of it are to be gone on from"),
        concat("give a longer clip, or --condition-frames ", clip->frames.frames));
  };
  check_length(plan.before, std::max(plan.head.frames, plan.seamless ? plan.tail.frames : 0));
  check_length(plan.after, plan.tail.frames);
}

/// Early, and not after hours: whether every picture and clip can fill the frame.
void check_shapes(const Plan& plan, int64_t height, int64_t width) {
  std::vector<ReferencePtr> all{plan.before, plan.after};
  for (const Given& given : plan.given) all.insert(all.end(), given.references.begin(), given.references.end());
  for (const ReferencePtr& clip : all) {
    if (clip) fill_frames(*clip, 0, 1, height, width);
  }
  for (const ReferencePtr& clip : {plan.before, plan.after}) {
    if (clip && clip->frames.fps != plan.fps)
      log_warn(concat("'", printable(clip->name), "' has ", clip->frames.fps, " frames a second, the result will have ",
                      plan.fps, ": --fps sets another rate"));
  }
}

Spread spread_of(const Plan& plan, const Parts& parts, const std::string& name, int ranks, const cache::Method* cache) {
  const auto [t, h, w] = parts.vae.latent_size({plan.num_frames, plan.height, plan.width});
  const models::STDiT3Config& model = parts.transformer.config();
  const auto patches = [&](int64_t size, size_t dim) {
    return (size + model.patch_size[dim] - 1) / model.patch_size[dim];
  };
  SpreadRequest request{
      .name = name,
      .ranks = ranks,
      .on_one_host = parts.ranks_of_host >= parts.ranks.size(),
      .call = {.extent = {.frames = patches(t, 0), .rows = patches(h, 1) * patches(w, 2)},
               .element_bytes = static_cast<int64_t>(parts.sizes.element_bytes)},
      .is_guided = plan.is_guided(),
      .call_flops = models::stdit3_flops(model, t, h, w, model.model_max_length, plan.is_guided() ? 2 : 1)};
  if (cache) {
    request.computed = computed_share(*cache, cache_context(plan, parts).order);
    request.decides_by_values = cache->looks_at_data();
  }
  Spread spread = choose_spread(request, model);
  if (spread.arrangement.layout == "megatron" && (parts.sizes.quantize || !parts.sizes.adapter_ranks.empty())) {
    throw UsageError("megatron cuts the transformer's weights into heads, and neither bytes nor adapters are cut",
                     "take --parallel dsp, ulysses or ring");
  }
  return spread;
}

/// Weights that are loaded already are part of what the process holds.
ModelSizes sizes_to_load(const Parts& parts) {
  ModelSizes sizes = parts.sizes;
  if (parts.text_part.is_loaded()) sizes.text_bytes = 0;
  if (parts.transformer_part.is_loaded()) sizes.transformer_bytes = 0;
  if (parts.vae_part.is_loaded()) sizes.vae_bytes = 0;
  return sizes;
}

/// Of one process: those of a host share its memory where no limit says what each has. A GPU is one rank's.
Room room_of(const Parts& parts, uint64_t limit) {
  Room room = memory_room(limit, parts.device);
  if (limit == 0 && parts.device.is_cpu()) room.most = room.bytes /= static_cast<uint64_t>(parts.ranks_of_host);
  return room;
}

/// Every pass of every clip, from where the job stands.
void denoise_all(const Work& work, Job& job) {
  const Plan& plan = work.plan;
  const auto let_go = [&] {
    if (plan.one_by_one) work.parts.keep_only(nullptr);
  };
  let_go();  // a run that was cancelled leaves the part that it was in
  Conditions conditions = encode_references(work);
  let_go();
  const Features features = encode_texts(work);
  let_go();
  const int64_t frames = work.latent_frames(), clips = work.clips(),
                each = static_cast<int64_t>(plan.scheduler->timesteps().size());
  const auto is_done = [&](int64_t clip, int64_t pass) {
    return job.latents[clip].defined() && job.latents[clip].size(1) > pass * frames;
  };
  int64_t calls = 0;
  for (int64_t pass = 0; pass < plan.passes(); ++pass) {
    bool has_ends = false;
    for (int64_t first = 0; first < clips; first += job.batch) {
      if (is_done(first, pass)) {
        calls += each;
        continue;
      }
      if (!has_ends) {
        encode_ends(work, pass, job.latents, conditions);
        let_go();
        has_ends = true;
      }
      if (job.pass != pass || job.first != first) job.state = {}, job.generators.clear();
      job.pass = pass, job.first = first;
      denoise(work, conditions, features, std::min(job.batch, clips - first), job, calls);
    }
    let_go();
  }
  job.is_denoised = true;
  if (work.hooks.on_job) work.hooks.on_job(job);
}

}  // namespace

at::ScalarType preferred_dtype(at::Device device) {
  if (!device.is_cpu()) return at::kBFloat16;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bf16")) return at::kBFloat16;
#endif
  return at::kFloat;
}

const char* stage_name(Stage stage) {
  static constexpr const char* kNames[] = {"load", "encode", "condition", "denoise", "decode"};
  return kNames[static_cast<int>(stage)];
}

Pipeline::Pipeline(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;
Pipeline::~Pipeline() = default;

Pipeline Pipeline::load(const PipelineOptions& options) {
  return Pipeline(std::make_unique<Parts>(options, find_model(options.paths)));
}

const comm::Traffic& Pipeline::traffic() const { return parts_->traffic; }
const ModelFolder& Pipeline::folder() const { return parts_->folder; }
const ModelSizes& Pipeline::sizes() const { return parts_->sizes; }
at::ScalarType Pipeline::dtype() const { return parts_->dtype; }

const cache::Calibration* Pipeline::calibration() const { return parts_->calibration(); }
void Pipeline::put_calibration(cache::CalibratedRun run) { parts_->put_calibration(std::move(run)); }

Plan Pipeline::plan(const Request& request) const {
  const Room room = room_of(*parts_, request.memory);
  Plan plan = make_plan(request, parts_->folder.defaults, parts_->vae.downscale());
  plan.adapters = parts_->adapters;
  if (parts_->sizes.quantize) plan.quantize = ops::name_of(*parts_->sizes.quantize);
  const auto [height, width] = frame_size(plan);
  choose_ends(plan, parts_->vae);
  check_shapes(plan, height, width);
  plan.scheduler =
      make_scheduler(parts_->folder.scheduler, parts_->folder.scheduler_config, static_cast<int>(plan.steps),
                     {.height = static_cast<double>(plan.height),
                      .width = static_cast<double>(plan.width),
                      .num_frames = plan.num_frames,
                      .dtype = parts_->dtype});
  if (cache::is_auto(plan.cache)) {
    plan.expected = cache::choose(plan.cache, cache_context(plan, *parts_));
    plan.cache = plan.expected->cache;
    if (!plan.adapters.empty() || parts_->sizes.quantize)
      log_warn("the cache is chosen by a calibration of the model's files alone: speed and quality may differ");
  }
  const auto cache = make_cache(plan, *parts_);
  if (cache) {
    plan.cache_budget = cache->budget();
    plan.kept_row_bytes = plan.cache_budget ? plan.cache_budget->all_row_bytes
                                            : cache->most_row_bytes(parts_->transformer.config().hidden_size,
                                                                    static_cast<int64_t>(parts_->sizes.element_bytes));
    plan.held_values = cache->most_held_values(), plan.keeps_in_place = cache->keeps_in_place();
    // A clip must not depend on its neighbours: neither on their values nor on how many share the budget.
    if (cache->looks_at_data() || plan.cache_memory > 0) plan.batch = 1;
  }
  const int ranks = request.ranks > 0 ? request.ranks : parts_->ranks.size();
  plan.spread = spread_of(plan, *parts_, request.parallel, ranks, cache.get());
  const auto fit = [&] { plan = fitted(plan, fit_into(sizes_to_load(*parts_), plan, room, cache.get())); };
  fit();
  const int64_t own_rows = plan.rows();
  settle(plan, parts_->ranks);
  if (plan.rows() < own_rows) fit();
  parts_->warn_of_long_texts(plan);
  return plan;
}

uint64_t Pipeline::least_room(const Plan& plan) const {
  const auto cache = plan.scheduler ? make_cache(plan, *parts_) : nullptr;
  return video::least_room(sizes_to_load(*parts_), plan, cache.get());
}

std::pair<int64_t, int64_t> Pipeline::frame_size(const Plan& plan) const {
  const int64_t block = parts_->vae.downscale();
  return {plan.height / block * block, plan.width / block * block};
}

std::vector<Clip> Pipeline::generate(const Plan& plan, const Hooks& hooks, Job from) {
  const at::NoGradGuard no_grad;
  Hooks own = hooks;
  if (parts_->ranks.size() > 1) own.cancel = {};  // a rank that leaves a model alone would be waited for
  const Work work{*parts_, plan, own, hooks.cancel};
  const auto clips = static_cast<size_t>(work.clips());
  if (plan.batch < 1 || plan.texts.size() != clips || plan.given.size() != clips ||
      (!plan.scheduler && !plan.is_decode_only))
    throw UsageError("the plan is not complete", "make it with Pipeline::plan");
  if (!plan.is_decode_only && plan.spread.ranks() != parts_->ranks.size())
    throw UsageError(
        concat("the plan is for ", plan.spread.ranks(), " ranks, and ", parts_->ranks.size(), " are here"));
  Job job = std::move(from);
  if (job.latents.empty()) {
    job.batch = plan.batch;
    job.latents.resize(clips);
    if (hooks.on_job) job.settings = settings(plan);
  } else if (!plan.is_decode_only) {
    check_same_settings(job.settings, settings(plan));
  }
  check_job(job, work);
  require_agreement(plan, settings(plan), job, parts_->ranks);
  if (!job.is_denoised) denoise_all(work, job);

  std::vector<Clip> made(clips);
  int64_t frames = 0;
  if (plan.one_by_one) parts_->keep_only(&parts_->vae_part);
  for (size_t i = 0; i < clips; ++i) {
    made[i].latents = job.latents[i];
    made[i].metadata = metadata(plan, static_cast<int64_t>(i));
    decode(work, static_cast<int64_t>(i), made[i], frames);
  }
  if (plan.one_by_one) parts_->keep_only(nullptr);
  return made;
}

}  // namespace kinora::video
