// EasyCache (Zhou et al. 2025, arXiv 2507.02860): around the whole model call. How much the output changes for a change of
// the input is nearly constant between neighbouring steps; so the change of the latents, times the rate of the last
// computation, tells how far the output has moved. While that adds up to less than a threshold, the last output is moved
// along with the input.
#include <algorithm>
#include <map>
#include <optional>

#include "kinora/cache/change.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

double mean_abs(const Tensor& t) { return t.abs().mean().item<double>(); }

class Easy final : public Method {
 public:
  Easy(double threshold, int64_t first) : threshold_(threshold), first_(first) {}
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  bool looks_at_data() const override { return true; }
  bool has_form() const override { return false; }
  int64_t most_kept_values() const override { return 0; }  // latents are small beside a block's rows
  uint64_t kept_bytes() const override {
    uint64_t total = 0;
    for (const Tensor& t : {before_, input_}) total += t.defined() ? t.nbytes() : 0;
    for (const auto& [branch, t] : outputs_) total += t.nbytes();
    return total;
  }

  std::vector<Tensor> predict(Denoiser& model, const Tensor& latents, const Step& step,
                              std::span<const Branch> wanted) override {
    const bool is_forced = step.call < first_ || step.call == step.calls - 1;
    const bool has_all = std::all_of(wanted.begin(), wanted.end(), [&](Branch b) { return outputs_.contains(b); });
    Decision decision{.call = step.call, .timestep = step.timestep, .what = "call"};
    if (!is_forced && has_all && rate_) {
      // One branch decides for both: the one that is always asked for.
      decision.change = *rate_ * mean_abs(latents - before_) / mean_abs(outputs_.at(Branch::cond));
      sum_ += decision.change;
      decision.reused = sum_ < threshold_;
    }
    note(decision);
    before_ = latents;
    std::vector<Tensor> out;
    if (decision.reused) {
      for (const Branch branch : wanted) out.push_back(latents + (outputs_.at(branch) - input_));
      return out;
    }
    sum_ = 0;
    out = model.predict(latents, step, wanted);
    for (size_t i = 0; i < wanted.size(); ++i) {
      Tensor& kept = outputs_[wanted[i]];
      if (wanted[i] == Branch::cond && kept.defined()) {
        const double moved = mean_abs(latents - input_);
        rate_ = moved > 0 ? std::optional(mean_abs(out[i] - kept) / moved) : std::nullopt;
      }
      kept = out[i];
    }
    input_ = latents;
    return out;
  }

 private:
  double threshold_;
  int64_t first_;
  double sum_ = 0;
  std::optional<double> rate_;        // change of the output for a change of the input
  Tensor before_, input_;             // latents of the last call, and of the last computed one
  std::map<Branch, Tensor> outputs_;  // of the last computed one
};

}  // namespace

std::unique_ptr<Method> make_easy(const JsonObject& settings, const Context& context) {
  require_deterministic(context, "easy");
  constexpr int64_t kMostSteps = 10000;
  return std::make_unique<Easy>(threshold_of(settings, 0.05), settings.int_or("first", 10, 1, kMostSteps));
}

}  // namespace kinora::cache
