// The planned cache: which calls to compute and how to make up the others is decided beforehand, by the Gram matrix that
// `kinora calibrate` measured (extrapolation.h). Whole calls are left out, so nothing but a few predictions is kept.
#include <map>

#include "kinora/base/error.h"
#include "kinora/cache/change.h"
#include "kinora/cache/extrapolation.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

class Planned final : public Method {
 public:
  explicit Planned(std::vector<PlannedCall> plan) : plan_(std::move(plan)) {}
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  bool has_form() const override { return false; }
  int64_t most_kept_values() const override { return 0; }  // latents are small beside a block's rows
  uint64_t kept_bytes() const override {
    uint64_t total = first_latents_.defined() ? first_latents_.nbytes() : 0;
    for (const auto& [call, outputs] : computed_) {
      for (const auto& [branch, t] : outputs) total += t.nbytes();
    }
    return total;
  }

  std::vector<Tensor> predict(Denoiser& model, const Tensor& latents, const Step& step,
                              std::span<const Branch> wanted) override {
    if (static_cast<size_t>(step.calls) != plan_.size())
      throw UsageError(concat("the planned cache is for ", plan_.size(), " calls, not ", step.calls));
    if (step.call == 0) computed_.clear(), first_latents_ = latents;
    const PlannedCall& planned = plan_[static_cast<size_t>(step.call)];
    // A run that was resumed has not seen the calls that this one would be made up from.
    const bool reused = !planned.is_computed && first_latents_.defined() && has_parts(planned);
    note({.call = step.call, .timestep = step.timestep, .what = "call", .reused = reused});
    if (reused) return made_up(planned, wanted);
    auto out = model.predict(latents, step, wanted);
    if (computed_.size() == kMostKept) computed_.erase(computed_.begin());
    for (size_t i = 0; i < wanted.size(); ++i) computed_[step.call][wanted[i]] = out[i];
    return out;
  }

 private:
  static constexpr size_t kMostKept = 2;  // computed calls that a plan looks back at

  bool has_parts(const PlannedCall& planned) const {
    for (const auto& [call, weight] : planned.weights) {
      if (!computed_.contains(call)) return false;
    }
    return true;
  }

  std::vector<Tensor> made_up(const PlannedCall& planned, std::span<const Branch> wanted) const {
    std::vector<Tensor> out;
    for (const Branch branch : wanted) {
      Tensor sum = planned.first_latents * first_latents_;
      for (const auto& [call, weight] : planned.weights) sum = sum + weight * computed_.at(call).at(branch);
      out.push_back(std::move(sum));
    }
    return out;
  }

  std::vector<PlannedCall> plan_;
  Tensor first_latents_;
  std::map<int64_t, std::map<Branch, Tensor>> computed_;
};

}  // namespace

std::unique_ptr<Method> make_planned(const JsonObject& settings, const Context& context) {
  require_deterministic(context, "planned");
  const CalibratedRun& run = context.measured();
  const int64_t calls = run.gram.calls;
  const int64_t computed = settings.int_or("calls", (calls + 1) / 2, 1, calls);
  return std::make_unique<Planned>(plan_calls(run.gram, context.guidance_scale, context.influence, computed));
}

}  // namespace kinora::cache
