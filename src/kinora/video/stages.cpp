#include "kinora/video/stages.h"

#include <algorithm>
#include <array>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/cache/registry.h"
#include "kinora/comm/agree.h"
#include "kinora/comm/steps.h"
#include "kinora/diffusion/branches_apart.h"
#include "kinora/diffusion/influence.h"
#include "kinora/graph/block_graphs.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/models/open_sora/work.h"
#include "kinora/offload/ahead.h"
#include "kinora/parallel/guidance.h"
#include "kinora/parallel/layouts.h"
#include "kinora/tensor/random.h"
#include "kinora/video/mask_strategy.h"
#include "kinora/video/pieces.h"
#include "kinora/video/spread.h"
#include "kinora/video/stdit3_denoiser.h"
#include "kinora/video/turns.h"

namespace kinora::video {
namespace {

constexpr int64_t kPreviewFrames = 4;
constexpr uint64_t kPassSeed = 0x9E3779B97F4A7C15;  // passes of neighbouring seeds must not meet

/// Overflow in a narrow dtype would otherwise end as a picture of nothing.
void require_finite(const Tensor& values, at::ScalarType dtype) {
  if (at::isfinite(values).all().item<bool>()) return;
  throw DataError(concat("the model's clip is not finite in ", c10::toString(dtype)),
                  "try --dtype float32; if it stays so, the weights are damaged");
}

double rounded(double value, at::ScalarType dtype) { return at::full({}, value, dtype).item<double>(); }

/// A generator for each clip and pass, so that no clip depends on its neighbours, and no pass on what others drew.
at::Generator generator_of(const Plan& plan, int64_t clip, int64_t pass) {
  return cpu_generator(plan.seed + static_cast<uint64_t>(clip) + static_cast<uint64_t>(pass) * kPassSeed);
}

void restore(at::Generator& generator, const Tensor& state) {
  try {
    generator.set_state(state);
  } catch (const c10::Error&) {
    throw DataError("the job's random generators are damaged", "remove the job to begin anew");
  }
}

/// The values that are given, in place, and the edit ratio of every latent frame [count * T]; empty where all are 1.
std::vector<double> apply_conditions(const Work& work, const Conditions& conditions, int64_t pass, int64_t first,
                                     Tensor& latents) {
  const Plan& plan = work.plan;
  const int64_t count = latents.size(0), frames = latents.size(2);
  const auto of_group = [&](const auto& list) {
    return std::vector(list.begin() + first, list.begin() + first + count);
  };
  std::vector<std::vector<text::MaskGroup>> strategies;
  for (const Given& given : of_group(plan.given)) strategies.push_back(given.strategy);
  // Starts fall on the autoencoder's chunks, as in the reference: 5 latent frames of 17 frames.
  const auto& vae = work.parts.vae;
  const int64_t chunk = vae.config().micro_frame_size;
  const auto align = chunk > 0 ? std::optional(vae.temporal().latent_frames(chunk)) : std::nullopt;
  std::vector<double> ratios = apply_mask_strategy(latents, of_group(conditions.references), strategies, pass, align);
  const auto put = [&](int64_t b, const Tensor& given, int64_t start) {
    latents[b].narrow(1, start, given.size(1)).copy_(given);
    std::fill_n(ratios.begin() + b * frames + start, given.size(1), plan.condition_edit);
  };
  for (int64_t b = 0; b < count; ++b) {
    const Tensor& head = conditions.head[first + b];
    const Tensor& tail = conditions.tail[first + b];
    if (head.defined()) put(b, head, 0);
    if (tail.defined()) put(b, tail, frames - tail.size(1));
  }
  if (std::all_of(ratios.begin(), ratios.end(), [](double ratio) { return ratio == 1.0; })) return {};
  return ratios;
}

/// Some latent frames of each clip, each decoded as a picture: what a clip will look like, for a part of a decode.
std::vector<media::Frames> preview(const Work& work, const Tensor& clean) {
  Run run;
  run.weights = &work.parts.loaded(work.parts.vae_part, work.hooks);
  run.cancel = work.hooks.cancel;
  const int64_t frames = clean.size(2), shown = std::min(kPreviewFrames, frames);
  std::vector<media::Frames> clips;
  for (const Tensor& clip : clean.unbind(0)) {
    std::vector<Tensor> latents;
    for (int64_t i = 0; i < shown; ++i)
      latents.push_back(clip.narrow(1, shown == 1 ? 0 : i * (frames - 1) / (shown - 1), 1));
    const Tensor pictures =
        work.parts.vae.decode(run, at::stack(latents).to(work.parts.dtype), 1);  // [shown, 3, 1, H, W]
    clips.push_back(media::to_frames(at::nan_to_num(pictures.squeeze(2).transpose(0, 1)), work.plan.fps));
  }
  return clips;
}

/// Pieces are not compared with the whole here, which would not fit: the tests do that.
graph::BlockGraphOptions graph_options(const Plan& plan, at::Device device) {
  return {.plan = plan_options(device, plan.pieces.budget),
          .verifies = false,
          .uses_arena = false,
          .counts_kept = !plan.keeps_in_place};
}

}  // namespace

void Work::check_cancelled() const {
  if (comm::any(parts.ranks, cancel.stop_requested(), "cancel")) throw CancelledError();
}

std::vector<Tensor> in_turns(const Work& work, Stage stage, int64_t count, c10::function_ref<Tensor(int64_t)> make) {
  comm::Communicator& ranks = work.parts.ranks;
  const auto show = [&](int64_t done) {
    if (work.hooks.on_progress && count > 0) work.hooks.on_progress(stage, done, count);
  };
  std::vector<Tensor> all;
  show(0);
  for (int64_t done = 0; done < count; done = static_cast<int64_t>(all.size()), show(done)) {
    work.check_cancelled();
    const auto round = make_in_turns(ranks, std::min<int64_t>(ranks.size(), count - done), work.parts.device,
                                     stage_name(stage), [&](int64_t i) { return make(done + i); });
    all.insert(all.end(), round.begin(), round.end());
  }
  return all;
}

int64_t Work::latent_frames() const { return parts.vae.latent_size({plan.num_frames, plan.height, plan.width})[0]; }

cache::Context cache_context(const Plan& plan, const Parts& parts) {
  const models::STDiT3Config& model = parts.transformer.config();
  const auto [t, h, w] = parts.vae.latent_size({plan.num_frames, plan.height, plan.width});
  const auto schedule = plan.scheduler->timesteps();
  cache::Context context{.model = "STDiT3",
                         .sites = {{Kind::spatial, model.depth},
                                   {Kind::temporal, model.depth},
                                   {Kind::cross, 2 * model.depth},
                                   {Kind::mlp, 2 * model.depth}},
                         .schedule = {schedule.begin(), schedule.end()},
                         .steps = plan.steps,
                         .is_stochastic = plan.scheduler->is_stochastic(),
                         .guidance_scale = plan.guidance_scale,
                         .rows = (plan.is_guided() ? 2 : 1) * models::stdit3_rows(model, t, h, w),
                         .width = model.hidden_size,
                         .element_bytes = static_cast<int64_t>(parts.sizes.element_bytes),
                         .budget = plan.cache_memory,
                         .host_for = parts.device.is_cpu() ? std::nullopt : std::optional(parts.device)};
  for (const models::SiteWork& site : models::stdit3_sites(model, t, h, w, model.model_max_length))
    context.order.push_back({site.path, site.kind, site.flops});
  if (plan.cache == "none") return context;
  if (!context.is_stochastic) context.influence = influence_of(*plan.scheduler);
  context.calibration = parts.calibration();
  return context;
}

std::unique_ptr<cache::Method> make_cache(const Plan& plan, const Parts& parts) {
  return cache::make_method(plan.cache, cache_context(plan, parts));
}

Features encode_texts(const Work& work) {
  const Plan& plan = work.plan;
  const Hooks& hooks = work.hooks;
  std::vector<std::string> texts;
  for (const text::PromptSegments& segments : plan.texts)
    texts.insert(texts.end(), segments.texts.begin(), segments.texts.end());
  if (plan.negative_text && plan.is_guided()) texts.push_back(*plan.negative_text);
  Features features;
  Run run;
  run.weights = &work.parts.loaded(work.parts.text_part, hooks, plan.weights.text_encoder);
  run.cancel = hooks.cancel;
  const int64_t longest = work.parts.transformer.config().model_max_length;
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  const auto encode = [&](const std::string& text) -> Tensor {
    const text::Encoded ids = work.parts.tokenizer.encode(text, {.max_length = longest});
    const Tensor input = at::tensor(ids.ids, at::kLong).unsqueeze(0).to(work.parts.device);
    return work.parts.encoder.forward(run, input)[0];
  };
  const auto made = in_turns(work, Stage::encode, static_cast<int64_t>(texts.size()),
                             [&](int64_t i) { return encode(texts[static_cast<size_t>(i)]); });
  for (size_t i = 0; i < texts.size(); ++i) features[texts[i]] = made[i];
  return features;
}

void denoise(const Work& work, const Conditions& conditions, const Features& features, int64_t count, Job& job,
             int64_t& calls) {
  Parts& parts = work.parts;
  const Plan& plan = work.plan;
  const Hooks& hooks = work.hooks;
  const int64_t first = job.first;
  const Scheduler& scheduler = *plan.scheduler;
  const bool goes_on = job.state.latents.defined();
  TextFeatures cond, uncond;
  std::vector<at::Generator> generators;
  for (int64_t i = first; i < first + count; ++i) {
    cond.push_back(features.at(plan.texts[i].at(job.pass)));
    if (plan.negative_text && plan.is_guided()) uncond.push_back(features.at(*plan.negative_text));
    generators.push_back(generator_of(plan, i, job.pass));
    if (goes_on) restore(generators.back(), job.generators[i - first]);
  }
  const auto [t, h, w] = parts.vae.latent_size({plan.num_frames, plan.height, plan.width});
  const std::vector<int64_t> shape{parts.vae.latent_channels(), t, h, w};
  const at::ScalarType dtype = parts.dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto noise = [&]() -> Tensor {
    std::vector<Tensor> draws;
    for (at::Generator& generator : generators) draws.push_back(randn(shape, generator, dtype, parts.device));
    return at::stack(draws);
  };
  if (hooks.preview_every > 0 && hooks.on_preview) parts.loaded(parts.vae_part, hooks);
  Run run;
  run.weights = &parts.loaded(parts.transformer_part, hooks, plan.weights.transformer);
  run.cancel = hooks.cancel;
  // The reference holds these numbers in the pipeline's dtype; the model was used so.
  const ClipShape clip{.height = rounded(static_cast<double>(plan.height), parts.dtype),
                       .width = rounded(static_cast<double>(plan.width), parts.dtype),
                       .fps = rounded(plan.model_fps(), parts.dtype)};
  const auto planned = hooks.cache ? nullptr : make_cache(plan, parts);
  cache::Method* const cache = hooks.cache ? hooks.cache : planned.get();
  if (cache) {
    if (goes_on) log_warn("what the cache kept is not part of a job: the steps behind the resume may differ a little");
    run.policy = cache;
    cache->on_decision = hooks.on_decision;
  }
  std::optional<offload::Ahead> ahead;
  if (cache && parts.transformer_part.streamed) {
    run.policy = &ahead.emplace(parts.transformer.params(), parts.transformer_part.streamed->weights, cache);
  }
  std::optional<graph::BlockGraphs> pieces;
  if (plan.pieces.budget > 0) run.policy = &pieces.emplace(graph_options(plan, parts.device), run.policy);
  parallel::MadeLayout rows = parallel::make_layout(plan.spread.arrangement, facts_of(parts.transformer.config()),
                                                    plan.spread.extent, parts.ranks);
  run.layout = &rows.layout();
  STDiT3Denoiser model(parts.transformer, run, std::move(cond), std::move(uncond), clip);
  parallel::GuidanceParallel branches(model, rows.across());
  BranchesApart apart(branches);
  if (plan.branches_apart) model.embed(std::array{Branch::cond, Branch::uncond});
  Denoiser& plain = plan.branches_apart ? static_cast<Denoiser&>(apart) : branches;
  std::optional<cache::CachedDenoiser> cached;
  if (cache) cached.emplace(plain, *cache);
  Denoiser& denoiser = cached ? static_cast<Denoiser&>(*cached) : plain;

  SampleOptions options;
  options.guidance_scale = plan.guidance_scale, options.cancel = hooks.cancel;
  Tensor latents = goes_on ? job.state.latents.clone() : noise();
  if (!goes_on && scheduler.initial_sigma() != 1.0) latents = latents * scheduler.initial_sigma();
  options.edit_ratio = apply_conditions(work, conditions, job.pass, first, latents);
  if (goes_on)
    job.state.latents = job.state.latents.to(parts.device);  // the copy above was for the ratios alone
  else
    job.state.latents = latents;
  const int64_t groups = (work.clips() + job.batch - 1) / job.batch;
  const auto total = static_cast<int64_t>(scheduler.timesteps().size()) * groups * plan.passes();
  comm::Steps steps(parts.ranks);
  double waited = parts.traffic.waited_s();
  auto begin = std::chrono::steady_clock::now();
  options.on_step = [&](int, int, const Tensor&) {
    ++calls;
    if (hooks.on_job) {
      job.generators.clear();
      for (const at::Generator& generator : generators) job.generators.push_back(generator.get_state());
      hooks.on_job(job);
    }
    if (hooks.on_progress) hooks.on_progress(Stage::denoise, calls, total);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double worked = seconds - (parts.traffic.waited_s() - waited);
    if (steps.agree_to_stop(work.cancel.stop_requested(), worked)) throw CancelledError();
    waited = parts.traffic.waited_s(), begin = std::chrono::steady_clock::now();
  };
  if (hooks.preview_every > 0 && hooks.on_preview) {
    options.estimate_every = static_cast<int>(hooks.preview_every);
    options.on_estimate = [&](int done, int each, const Tensor& clean) {
      hooks.on_preview(preview(work, clean), first, done, each);
    };
  }
  if (goes_on) calls += job.state.trajectory.call;
  if (hooks.on_progress) hooks.on_progress(Stage::denoise, calls, total);
  sample(denoiser, scheduler, job.state, options, noise);
  if (cache && hooks.on_cache) hooks.on_cache(*cache);
  require_finite(job.state.latents, parts.dtype);
  for (int64_t b = 0; b < count; ++b) {
    Tensor& made = job.latents[first + b];
    const Tensor latents_of_pass = job.state.latents[b].cpu();
    made = made.defined() ? at::cat({made, latents_of_pass}, 1) : latents_of_pass;
  }
  job.state = {}, job.generators.clear();
}

}  // namespace kinora::video
