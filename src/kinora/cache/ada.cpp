// AdaCache (Kahatapitiya et al. 2024, arXiv 2411.02397): how much the temporal attention in the middle of the model has
// changed since it was computed last tells, by a table of rates, for how many calls everything that the blocks add is
// repeated. The reference repeats each sublayer's residual; they are all repeated in the same calls, so their sum is kept.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/cache/branches.h"
#include "kinora/cache/change.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

struct Codebook {
  std::vector<double> changes;  ///< rising
  std::vector<int64_t> rates;   ///< calls to the next computation: below each change, and from the last one on
};

constexpr int64_t kBetween = 65;  // from so many steps on the table for 100 is nearer than that for 30

struct AdaSettings {
  Codebook codebook;
  int64_t block = 13;          ///< of those with temporal attention, which is looked at
  bool regularizes = false;    ///< by motion: clips that move much are computed more often
  double first = 0, last = 0;  ///< calls, from 1, between which it does
};

class Ada final : public Method {
 public:
  explicit Ada(AdaSettings settings) : settings_(std::move(settings)) {}
  bool looks_at_data() const override { return true; }
  int64_t most_kept_values() const override { return 2; }
  int64_t most_exact_values() const override { return 1; }
  int64_t most_held_values() const override { return 1; }

  bool keeps(const SiteKey& key, const Run&) const override {
    return key.kind == Kind::temporal && key.point == Point::residual && block_name(key.path).number == settings_.block;
  }
  void keep(const SiteKey&, const Run& run, const Streams& streams) override {
    const auto rows = branches_of(run);
    if (const auto before = store_.find(kAttention, rows)) {
      Course& course = courses_[rows];
      course.change = relative_change(run, streams[0], before->at(0)) / static_cast<double>(course.rate);
      if (settings_.regularizes) course.change *= regularized(run, course, streams[0]);
      course.rate = rate_of(course.change);
    }
    store_.put_exact(kAttention, rows, {streams[0]});
  }

  Streams stack(const Run& run, const Stack& blocks, Streams streams) override {
    const auto rows = branches_of(run);
    const int64_t call = run.step.call + 1, calls = run.step.calls;  // the reference counts from 1
    const auto residual = store_.find(kResidual, rows);
    Course& course = courses_[rows];
    Decision decision{.call = run.step.call, .timestep = run.step.timestep, .what = "blocks", .path = blocks.path};
    decision.reused = residual && call > 1 && call < calls - 1 && call < course.next;
    if (decision.reused) {
      note(decision);
      return add(streams, *residual);
    }
    extent_ = blocks.extent;
    course.change = kNothing;
    Streams out = run_blocks(run, blocks, 0, blocks.blocks, streams);
    if (!store_.has(kAttention, rows))
      throw UsageError(concat("AdaCache: the model has no temporal block ", settings_.block));
    course.next = call + course.rate;
    decision.change = course.change;
    note(decision);
    store_.put(kResidual, rows, subtract(out, streams));
    return out;
  }

 private:
  static constexpr const char* kResidual = "residual";
  static constexpr const char* kAttention = "attention";
  static constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

  struct Course {
    int64_t rate = 1, next = 2;
    double change = kNothing, motion = 1;  // of the last computation
  };

  int64_t rate_of(double change) const {
    const auto& [changes, rates] = settings_.codebook;
    size_t i = 0;
    while (i < changes.size() && !(change < changes[i])) ++i;
    return rates[i];
  }

  /// Motion against what is usual, and how fast it changes. Before and behind its calls motion counts as usual.
  double regularized(const Run& run, Course& course, const Tensor& rows) const {
    constexpr double kUsual = 0.385, kPower = 8, kGradient = 10;
    const auto call = static_cast<double>(run.step.call + 1);
    double motion = 1;
    if (settings_.first <= call && call <= settings_.last && extent_.frames > 1)
      motion = std::pow(motion_of(run, rows) / kUsual, kPower);
    const double gradient =
        kGradient * (motion - std::exchange(course.motion, motion)) / static_cast<double>(course.rate);
    return motion + std::abs(gradient);
  }

  /// How much neighbouring frames of [B, T, S, C] differ, 0 to 1; of all ranks, since any two may lie on different ones.
  double motion_of(const Run& run, const Tensor& rows) const {
    Tensor all = run.layout->whole(rows, Axis::frames, 1, extent_);
    all =
        run.layout->whole(all, Axis::rows, 2, extent_).to(rows.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    const Tensor from = all.narrow(1, 0, all.size(1) - 1), to = all.narrow(1, 1, all.size(1) - 1);
    return ((to - from).abs().sum() / (to.abs().sum() + from.abs().sum())).item<double>();
  }

  AdaSettings settings_;
  Extent extent_;  // of the call that runs
  std::map<std::vector<Branch>, Course> courses_;
};

Codebook codebook_of(const JsonObject& settings, const Context& context) {
  const std::string speed = settings.string_or("speed", "fast");
  if (speed != "fast" && speed != "slow") throw UsageError("AdaCache: speed is fast or slow");
  const bool is_long = context.steps >= kBetween;
  if (speed == "slow" && is_long) throw UsageError("AdaCache: there is no slow table for so many steps");
  // The reference's for Open-Sora 1.2, for 30 steps and for 100.
  Codebook book{{0.08, 0.16, 0.24, 0.32, 0.40}, {6, 5, 4, 3, 2, 1}};
  if (speed == "slow") book.rates = {3, 2, 1, 1, 1, 1};
  if (is_long) book = {{0.03, 0.05, 0.07, 0.09, 0.11}, {12, 10, 8, 6, 4, 3}};
  book.changes = settings.numbers_or("changes", book.changes);
  book.rates = settings.ints_or("rates", book.rates, 1, 10000);
  const bool rises = std::is_sorted(book.changes.begin(), book.changes.end());
  if (!rises || book.changes.empty() || !(book.changes.front() > 0) || book.rates.size() != book.changes.size() + 1)
    throw UsageError("AdaCache: changes must rise from above 0, and there is one rate more than changes",
                     "such as ada:changes=0.1+0.3,rates=4+2+1");
  return book;
}

}  // namespace

std::unique_ptr<Method> make_ada(const JsonObject& settings, const Context& context) {
  require_deterministic(context, "ada");
  const int64_t depth = context.sites_of(Kind::temporal);
  if (depth == 0)
    throw UsageError(concat("AdaCache looks at a temporal attention, and ", context.model, " has none"),
                     "take another cache, such as first-block");
  AdaSettings s;
  s.codebook = codebook_of(settings, context);
  s.block = settings.int_or("block", (depth - 1) / 2, 0, depth - 1);
  s.regularizes = settings.bool_or("moreg", false);
  const auto steps = static_cast<double>(context.steps);
  const bool is_long = context.steps >= kBetween;
  s.first = steps * (is_long ? 0.1 : 4.0 / 30), s.last = steps * (is_long ? 0.9 : 26.0 / 30);
  return std::make_unique<Ada>(std::move(s));
}

}  // namespace kinora::cache
