// FasterCache (Lv et al. 2024, arXiv 2410.19355) as diffusers has it. Attention: between computations a module's output is
// not repeated but extrapolated from its last two. Guidance: for a few calls the model runs for cond alone, and uncond is
// cond plus how the two differed last, whose low frequencies are weighed up early and high ones late.
#include <algorithm>
#include <map>

#include "kinora/base/error.h"
#include "kinora/cache/branches.h"
#include "kinora/cache/methods.h"
#include "kinora/cache/store.h"
#include "kinora/tensor/allocator.h"

namespace kinora::cache {
namespace {

struct Window {  // timesteps strictly between
  double low = 0, high = 0;
  bool holds(double t) const { return low < t && t < high; }
};

struct FasterSettings {
  std::map<Kind, int64_t> attention;  ///< calls from one computation to the next; others are always computed
  Window window{-1, 681};
  double weight = 0.5;  ///< of the difference of the last two outputs
  int64_t uncond = 5;   ///< calls from one run of uncond to the next; 0: it always runs
  Window uncond_window{-1, 641};
  double low = 1.1, high = 1.1;  ///< what a skipped call multiplies the difference by, in its frequencies
  Window low_window{99, 901}, high_window{-1, 301};
};

class Faster final : public Method {
 public:
  Faster(FasterSettings settings, Context context) : settings_(std::move(settings)), context_(std::move(context)) {}

  bool reuses(const SiteKey& key, const Run& run) const override {
    const auto rows = kept_rows(run);
    return range_of(key) > 0 && rows == branches_of(run) && is_due(key, run.step, 0) && last_.has(key.path, rows);
  }
  Streams reuse(const SiteKey& key, const Run& run) override {
    const auto rows = kept_rows(run);
    Streams value = last_.find(key.path, rows).value();
    if (const auto before = before_.find(key.path, rows)) {
      for (size_t s = 0; s < value.size(); ++s) value[s] = value[s] + (value[s] - before->at(s)) * settings_.weight;
    }
    if (keeps(key, run)) remember(key, run, value);
    return value;
  }
  bool keeps(const SiteKey& key, const Run& run) const override {
    return range_of(key) > 0 && !kept_rows(run).empty() && (is_due(key, run.step, 1) || is_due(key, run.step, 2));
  }
  void keep(const SiteKey& key, const Run& run, const Streams& streams) override {
    const auto all = branches_of(run), rows = kept_rows(run);
    if (rows == all) return remember(key, run, streams);
    const auto cond = std::find(all.begin(), all.end(), Branch::cond) - all.begin();
    Streams part = split_branches(streams, all.size())[static_cast<size_t>(cond)];
    for (Tensor& t : part) t = t.clone();  // a view would hold the rows of uncond as well
    remember(key, run, std::move(part));
  }
  void ran(const SiteKey& key, const Run& run, bool reused) override {
    if (range_of(key) == 0) return;
    if (!keeps(key, run)) last_.drop(key.path, kept_rows(run)), before_.drop(key.path, kept_rows(run));
    note_site(key, run, reused);
  }

  std::vector<Tensor> predict(Denoiser& model, const Tensor& latents, const Step& step,
                              std::span<const Branch> wanted) override {
    if (settings_.uncond == 0 || wanted.size() != 2) return model.predict(latents, step, wanted);
    static constexpr Branch kCond[] = {Branch::cond};
    const size_t cond = wanted[0] == Branch::cond ? 0 : 1;
    const bool reused = skips_uncond(step.call, step.timestep) && difference_.defined();
    note({.call = step.call, .timestep = step.timestep, .what = "uncond", .reused = reused});
    if (!reused) {
      auto out = model.predict(latents, step, wanted);
      difference_ = at::fft_rfft2(wide(out[1 - cond]) - wide(out[cond]));
      recount_as(difference_, MemoryKind::caches);
      return out;
    }
    std::vector<Tensor> out(2);
    out[cond] = model.predict(latents, step, kCond)[0];
    const auto factor = [&](double value, const Window& window) { return window.holds(step.timestep) ? value : 1.0; };
    const double low = factor(settings_.low, settings_.low_window),
                 high = factor(settings_.high, settings_.high_window);
    const auto weight =
        at::where(low_band(latents), at::scalar_tensor(low, at::kDouble), at::scalar_tensor(high, at::kDouble));
    difference_ = difference_ * weight.to(latents.device(), c10::toRealValueType(difference_.scalar_type()));
    recount_as(difference_, MemoryKind::caches);
    const std::vector<int64_t> size{latents.size(-2), latents.size(-1)};
    out[1 - cond] = (wide(out[cond]) + at::fft_irfft2(difference_, at::IntArrayRef(size))).to(out[cond].scalar_type());
    return out;
  }

  bool has_form() const override { return false; }  // what is extrapolated would double a form's error
  uint64_t kept_bytes() const override {
    return last_.bytes() + before_.bytes() + (difference_.defined() ? difference_.nbytes() : 0);
  }
  int64_t most_kept_values() const override {
    const auto calls = static_cast<int>(context_.schedule.size());
    int64_t most = 0;
    for (int call = 0; call < calls; ++call) {
      int64_t kept = 0;
      for (const auto& [kind, range] : settings_.attention)
        kept += context_.sites_of(kind) * std::max(kept_after(range, call - 1), kept_after(range, call));
      most = std::max(most, kept);
    }
    return settings_.uncond > 0 ? (most + 1) / 2 : most;  // cond alone, of two branches
  }

 private:
  /// Modules as diffusers hooks them: before the gate.
  int64_t range_of(const SiteKey& key) const {
    const auto rule = settings_.attention.find(key.kind);
    return rule != settings_.attention.end() && key.point == Point::module ? rule->second : 0;
  }
  /// Where calls leave uncond out, only cond's rows are of use later; none where a call has no cond.
  std::vector<Branch> kept_rows(const Run& run) const {
    auto rows = branches_of(run);
    if (settings_.uncond > 0) std::erase(rows, Branch::uncond);
    return rows;
  }
  bool skips_uncond(int call, double timestep) const {
    return call % settings_.uncond != 0 && settings_.uncond_window.holds(timestep);
  }
  /// Whether an attention of this range is extrapolated at a call: never in one that runs for both branches, while others
  /// leave uncond out.
  bool is_due(int64_t range, int call, std::span<const double> schedule) const {
    if (call < 1 || call >= static_cast<int>(schedule.size()) || call % range == 0) return false;
    const double timestep = schedule[static_cast<size_t>(call)];
    return settings_.window.holds(timestep) && (settings_.uncond == 0 || skips_uncond(call, timestep));
  }
  bool is_due(const SiteKey& key, const Step& step, int later) const {
    return is_due(range_of(key), step.call + later, step.schedule);
  }
  /// Outputs of a site that are kept behind a call: the last one and the one before it, as the next calls need them.
  int64_t kept_after(int64_t range, int call) const {
    if (call < 0) return 0;
    const bool next = is_due(range, call + 1, context_.schedule);
    return (next && call > 0 ? 1 : 0) + (next || is_due(range, call + 2, context_.schedule) ? 1 : 0);
  }
  void remember(const SiteKey& key, const Run& run, Streams value) {
    const auto rows = kept_rows(run);
    const auto last = last_.find(key.path, rows);
    if (last && is_due(key, run.step, 1))
      before_.put(key.path, rows, *last);
    else
      before_.drop(key.path, rows);
    last_.put(key.path, rows, std::move(value));
  }
  static Tensor wide(const Tensor& t) { return t.scalar_type() == at::kDouble ? t : t.to(at::kFloat); }
  /// Frequencies within a fifth of the shorter side: [H, W / 2 + 1] bool, on the host.
  static Tensor low_band(const Tensor& latents) {
    const int64_t height = latents.size(-2), width = latents.size(-1), radius = std::min(height, width) / 5;
    const auto options = at::TensorOptions().dtype(at::kDouble);
    const Tensor rows = at::fft_fftfreq(height, 1.0 / static_cast<double>(height), options).round(),
                 columns = at::arange(width / 2 + 1, options);
    return (rows.square().unsqueeze(1) + columns.square()).le(static_cast<double>(radius * radius));
  }

  FasterSettings settings_;
  Context context_;
  Store last_, before_;  // outputs of attention
  Tensor difference_;    // uncond - cond in frequencies [B, C, T, H, W / 2 + 1]
};

Window window_of(const JsonObject& settings, const char* key, Window fallback) {
  if (!settings.has(key)) return fallback;
  const auto ends = settings.require_numbers(key);
  if (ends.size() != 2 || ends[0] < -1 || ends[1] > 1001 || ends[0] > ends[1])
    throw UsageError(concat("FasterCache: ", key, " must be low..high within -1..1001"),
                     concat("timesteps strictly between the ends, such as ", key, "=-1..681"));
  return {ends[0], ends[1]};
}

/// "off" is 0.
int64_t range_of(const JsonObject& settings, std::string_view key, int64_t fallback) {
  constexpr int64_t kMostRange = 1000;
  if (!settings.has(key)) return fallback;
  const Json& value = *settings.find(key);
  return value.is_boolean() && !value.get<bool>() ? 0 : settings.require_int(key, 1, kMostRange);
}

}  // namespace

std::unique_ptr<Method> make_faster(const JsonObject& settings, const Context& context) {
  FasterSettings s;
  for (const auto& [kind, fallback] : {std::pair{Kind::spatial, 2}, {Kind::temporal, 0}, {Kind::full, 2}}) {
    const std::string name(kind_name(kind));
    const int64_t range = range_of(settings, name, fallback);
    if (context.sites_of(kind) > 0 && range > 0) s.attention[kind] = range;
    if (context.sites_of(kind) == 0 && settings.has(name))
      throw UsageError(concat("FasterCache: ", context.model, " has no ", name, " attention"));
  }
  s.uncond = range_of(settings, "uncond", s.uncond);
  if (s.uncond > 0 && !context.is_guided())
    throw UsageError("FasterCache leaves guidance's second branch out, and this request has no guidance",
                     "faster:uncond=off takes attention alone");
  s.window = window_of(settings, "window", s.window);
  s.uncond_window = window_of(settings, "uncond_window", s.uncond_window);
  s.low_window = window_of(settings, "low_window", s.low_window);
  s.high_window = window_of(settings, "high_window", s.high_window);
  for (auto [key, value] : {std::pair{"weight", &s.weight}, {"low", &s.low}, {"high", &s.high}}) {
    *value = settings.number_or(key, *value);
    if (!(*value >= 0 && *value <= 10)) throw UsageError(concat("FasterCache: ", key, " must be 0 to 10"));
  }
  return std::make_unique<Faster>(std::move(s), context);
}

}  // namespace kinora::cache
