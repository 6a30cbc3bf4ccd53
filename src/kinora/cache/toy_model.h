// A model that can be followed by hand, for tests of caches: block b adds b + 1 times the timestep / 1000 to every row.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/cache/registry.h"

namespace kinora::cache::test {

inline constexpr int kBlocks = 4;
inline constexpr Branch kBoth[] = {Branch::cond, Branch::uncond}, kCond[] = {Branch::cond};

struct ToyOptions {
  double growth = 0;                       ///< of the latents from call to call
  std::span<const Branch> wanted = kBoth;  ///< of each call
  Kind kind = Kind::full;                  ///< of the attention, which is all that a block does
  double per_frame = 0;                    ///< what a block adds grows by this share from frame to frame
};

class ToyModel final : public Denoiser {
 public:
  ToyModel(Policy* policy, const ToyOptions& options) : options_(options) { run_.policy = policy; }
  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override {
    Run run = run_;
    run.step = step, run.rows = wanted;
    Stack blocks{.path = "blocks", .blocks = kBlocks};
    blocks.block = [&](const Run& r, int block, Streams in) -> Streams {
      ++computed_;
      const std::string path = concat("transformer_blocks.", block, ".attn1");
      const auto attend = [&]() -> Tensor {
        const Tensor frames = at::arange(in[0].size(1), at::kDouble).view({1, -1, 1, 1}) * options_.per_frame + 1;
        return at::ones_like(in[0]) * frames * ((block + 1) * r.step.timestep / 1000);
      };
      const int index = 2 * block + 1;  // as in a stack of two lists in turn
      return {in[0] + site_tensor(r, {path, index, options_.kind, Point::residual}, [&] {
                return site_tensor(r, {path, index, options_.kind, Point::module}, attend);
              })};
    };
    blocks.probe = [&](const Run& r, std::string_view, const Streams& in) { return in[0] + r.step.timestep / 1000; };
    blocks.extent = {latents.size(1), latents.size(2)};
    const auto n = static_cast<int64_t>(wanted.size());
    const Tensor out = stack(run, blocks, {latents.repeat({n, 1, 1, 1})})[0];
    return out.split(latents.size(0), 0);
  }
  int take_computed() { return std::exchange(computed_, 0); }

 private:
  ToyOptions options_;
  Run run_;
  int computed_ = 0;  // blocks
};

struct Course {
  std::vector<double> outputs;  ///< the first element of cond, by call
  std::vector<int> computed;    ///< blocks, by call
  std::vector<double> changes;  ///< what was measured, by decision
  uint64_t most_bytes = 0;      ///< that were kept behind a call
  int64_t most_values = 0;      ///< what the method says of itself
};

inline constexpr uint64_t kValueBytes = 2 * 12 * sizeof(double);  ///< a block's output for both branches

/// A run over `schedule` with the cache that `text` names.
inline Course follow(const std::string& text, const std::vector<double>& schedule, const ToyOptions& options = {}) {
  const auto method = make_method(text, {.model = "CogVideoXTransformer3DModel",
                                         .sites = {{options.kind, kBlocks}, {Kind::mlp, kBlocks}},
                                         .schedule = schedule,
                                         .steps = static_cast<int64_t>(schedule.size()),
                                         .guidance_scale = options.wanted.size() == 2 ? 3.0 : 1.0});
  ToyModel model(method.get(), options);
  std::optional<CachedDenoiser> cached;
  if (method) cached.emplace(model, *method);
  Denoiser& denoiser = cached ? static_cast<Denoiser&>(*cached) : model;
  Course course;
  if (method) {
    method->on_decision = [&](const Decision& d) { course.changes.push_back(d.change); };
    course.most_values = method->most_kept_values();
  }
  for (int call = 0; call < static_cast<int>(schedule.size()); ++call) {
    const Tensor latents = at::full({1, 2, 3, 2}, 1 + options.growth * call, at::kDouble);
    const Step step{
        .call = call, .calls = static_cast<int>(schedule.size()), .timestep = schedule[call], .schedule = schedule};
    const auto out = denoiser.predict(latents, step, options.wanted);
    course.outputs.push_back(out[0].flatten()[0].item<double>());
    course.computed.push_back(model.take_computed());
    if (method) course.most_bytes = std::max(course.most_bytes, method->kept_bytes());
  }
  return course;
}

}  // namespace kinora::cache::test
