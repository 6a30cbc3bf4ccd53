#include "kinora/diffusion/rflow.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/diffusion/schedulers.h"

namespace kinora {
namespace {

constexpr double kTrainTimesteps = 1000;
constexpr int64_t kFramesPerChunk = 17, kLatentsPerChunk = 5;  // the VAE's temporal chunk

Tensor as_float(double value) { return at::full({1}, value, at::kFloat); }

std::vector<double> even_times(int steps) {
  if (steps < 1) throw UsageError(concat("steps must be at least 1, not ", steps));
  std::vector<double> times;
  for (int i = 0; i < steps; ++i)
    times.push_back(static_cast<float>((1.0 - static_cast<double>(i) / steps) * kTrainTimesteps));
  return times;
}

}  // namespace

double shift_timestep(double timestep, const RFlowShift& shift) {
  // Tensors of the stated dtype, so that every intermediate rounds as it does where the model was trained.
  const auto in_dtype = [&](double value) { return at::full({1}, value, shift.dtype); };
  const Tensor space = at::sqrt(in_dtype(shift.height) * in_dtype(shift.width) / (512.0 * 512.0));
  // Whole chunks, as the reference counts; its count of 0 for 2 to 16 frames would give times that are not numbers.
  const double latents = std::max(1.0, static_cast<double>(shift.num_frames / kFramesPerChunk * kLatentsPerChunk));
  const Tensor ratio = space * at::sqrt(in_dtype(latents));
  const Tensor u = as_float(timestep) / kTrainTimesteps;
  return (ratio * u / (1 + (ratio - 1) * u) * kTrainTimesteps).item<float>();
}

double shift_timestep(double timestep, double ratio) {
  const double u = timestep / kTrainTimesteps;
  return ratio * u / (1 + (ratio - 1) * u) * kTrainTimesteps;
}

RFlow::RFlow(int steps, const RFlowShift* shift) : timesteps_(even_times(steps)) {
  if (!shift) return;
  for (double& t : timesteps_) t = shift_timestep(t, *shift);
}

RFlow::RFlow(int steps, double ratio) : timesteps_(even_times(steps)) {
  for (double& t : timesteps_) t = shift_timestep(t, ratio);
}

Tensor RFlow::step(Trajectory& trajectory, const Tensor& velocity, const Tensor& sample,
                   c10::function_ref<Tensor()>) const {
  const auto call = static_cast<size_t>(trajectory.call++);
  KINORA_ASSERT(call < timesteps_.size());
  const double next = call + 1 < timesteps_.size() ? timesteps_[call + 1] : 0.0;
  return sample + velocity * ((timesteps_[call] - next) / kTrainTimesteps);
}

Tensor RFlow::clean_estimate(const Tensor& velocity, const Tensor& sample, int call) const {
  return sample + velocity * (timesteps_.at(static_cast<size_t>(call)) / kTrainTimesteps);
}

Tensor RFlow::add_noise(const Tensor& clean, const Tensor& noise, const Tensor& timestep) const {
  Tensor t = timestep.to(clean.options()) / kTrainTimesteps;
  if (t.dim() == 1) t = t.view({-1, 1, 1, 1, 1});
  return (1 - t) * clean + t * noise;
}

Tensor rflow_loss(const Tensor& velocity, const Tensor& clean, const Tensor& noise, const Tensor& frame_mask) {
  const Tensor error = (velocity - (clean - noise)).square();
  if (!frame_mask.defined()) return error.mean({1, 2, 3, 4});
  const Tensor mask = frame_mask.to(error.scalar_type());
  const Tensor per_frame = error.mean({1, 3, 4}), counted = mask.sum(1);  // [B, T], [B]
  if (at::eq(counted, 0).any().item<bool>()) throw UsageError("rflow_loss: a clip of which no frame counts");
  return (per_frame * mask).sum(1) / counted;
}

std::unique_ptr<Scheduler> make_rflow(const JsonObject& config, int steps, const SchedulerContext& context) {
  const int64_t trained = config.int_or("num_train_timesteps", 1000);
  if (trained != 1000) throw DataError(concat(config.what(), ": num_train_timesteps ", trained), "RFLOW has 1000");
  const RFlowShift shift{
      .height = context.height, .width = context.width, .num_frames = context.num_frames, .dtype = context.dtype};
  const bool shifts = config.bool_or("use_timestep_transform", true);
  if (config.has("shift")) {
    constexpr double kMost = 100;
    const double ratio = config.require_number("shift");
    if (!(ratio > 0 && ratio <= kMost))
      throw DataError(concat(config.what(), ": shift ", ratio), concat("it is above 0, and at most ", kMost));
    return std::make_unique<RFlow>(steps, ratio);
  }
  if (shifts && !(context.height > 0 && context.width > 0))
    throw UsageError("RFLOW shifts its times by the clip's size, which is not given");
  return std::make_unique<RFlow>(steps, shifts ? &shift : nullptr);
}

}  // namespace kinora
