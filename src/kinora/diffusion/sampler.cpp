#include "kinora/diffusion/sampler.h"

#include "kinora/base/error.h"

namespace kinora {
namespace {

/// [B * T] of 0 and 1 as a mask that broadcasts against [B, C, T, H, W].
Tensor frame_mask(const std::vector<uint8_t>& frames, const Tensor& latents) {
  const Tensor mask = at::tensor(at::ArrayRef<uint8_t>(frames), at::kByte).to(latents.device(), at::kBool);
  return mask.view({latents.size(0), 1, latents.size(2), 1, 1});
}

}  // namespace

Tensor guided(Denoiser& denoiser, const Tensor& latents, const Step& step, double guidance_scale) {
  static constexpr Branch kCond[] = {Branch::cond}, kBoth[] = {Branch::cond, Branch::uncond};
  if (guidance_scale == 1.0) return denoiser.predict(latents, step, kCond)[0];
  const auto branches = denoiser.predict(latents, step, kBoth);
  return branches[1] + guidance_scale * (branches[0] - branches[1]);
}

Tensor sample(Denoiser& denoiser, const Scheduler& scheduler, Tensor latents, const SampleOptions& options,
              c10::function_ref<Tensor()> noise) {
  SampleState state{.latents = std::move(latents), .trajectory = {}, .joined = {}};
  sample(denoiser, scheduler, state, options, noise);
  return state.latents;
}

void sample(Denoiser& denoiser, const Scheduler& scheduler, SampleState& state, const SampleOptions& options,
            c10::function_ref<Tensor()> noise) {
  const auto times = scheduler.timesteps();
  const int calls = static_cast<int>(times.size());
  const auto frames = static_cast<size_t>(state.latents.size(0) * state.latents.size(2));
  if (!options.edit_ratio.empty() && options.edit_ratio.size() != frames) {
    throw UsageError(concat("sample: ", options.edit_ratio.size(), " edit ratios for ", frames, " latent frames"));
  }
  if (state.joined.empty()) {
    for (const double ratio : options.edit_ratio) state.joined.push_back(ratio == 1.0);
  }
  if (state.trajectory.call > calls || state.joined.size() != options.edit_ratio.size())
    throw UsageError("sample: the state to go on from is that of another run");

  Tensor& latents = state.latents;
  while (state.trajectory.call < calls) {
    if (options.cancel.stop_requested()) throw CancelledError();
    const int call = state.trajectory.call;
    Step step{.call = call, .calls = calls, .timestep = times[call], .schedule = times};
    std::vector<uint8_t> active;
    const Tensor before = latents;
    Tensor input = latents;
    std::vector<uint8_t> joined = state.joined;
    if (!options.edit_ratio.empty()) {
      std::vector<uint8_t> joining;
      for (size_t f = 0; f < frames; ++f) {
        active.push_back(options.edit_ratio[f] * 1000 >= times[call]);
        joining.push_back(active[f] && !joined[f]);
        joined[f] = active[f];
      }
      const Tensor noised = scheduler.add_noise(latents, noise(), at::full({}, times[call], at::kDouble));
      input = at::where(frame_mask(joining, latents), noised, latents);
      step.active_frames = active;
    }
    const Tensor prediction = guided(denoiser, scheduler.scale_input(input, call), step, options.guidance_scale);
    // Frames that are given stay as they were.
    const auto with_given = [&](const Tensor& made) {
      return active.empty() ? made : at::where(frame_mask(active, made), made, before.to(made.scalar_type()));
    };
    if (options.on_estimate && options.estimate_every > 0 && (call + 1) % options.estimate_every == 0)
      options.on_estimate(call + 1, calls, with_given(scheduler.clean_estimate(prediction, input, call)));
    latents = with_given(scheduler.step(state.trajectory, prediction, input, noise));
    state.joined = std::move(joined);
    if (options.on_step) options.on_step(state.trajectory.call, calls, latents);
  }
}

}  // namespace kinora
