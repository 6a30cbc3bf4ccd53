// TaylorSeer (Liu et al. 2025, arXiv 2503.06923): computed every few calls; in between a value is not repeated but
// extrapolated, by finite differences over its last computations in place of derivatives. At sites, or, as the "lite" mode
// of diffusers, for the model's output alone.
#include <algorithm>
#include <map>

#include "kinora/base/error.h"
#include "kinora/cache/branches.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

struct TaylorSettings {
  int64_t interval = 5;  ///< calls from one computation to the next
  int64_t first = 3;     ///< calls that are always computed
  int64_t last = -1;     ///< computed from this call on; below 0: never
  int64_t order = 1;
  Point point = Point::residual;
  std::vector<Kind> kinds;  ///< of sites; none: the model's output
};

/// The last value and its finite differences.
class Series {
 public:
  void update(const Streams& value, int call, int64_t order, Form form) {
    std::vector<Streams> made{value};
    const double span = call - call_;
    for (size_t j = 0; j < factors_.size() && static_cast<int64_t>(j) < order; ++j) {
      Streams difference;
      for (size_t s = 0; s < value.size(); ++s) difference.push_back((made[j][s] - restored(factors_[j][s])) / span);
      made.push_back(std::move(difference));
    }
    factors_.clear();
    for (const Streams& factor : made) {
      std::vector<Kept>& kept = factors_.emplace_back();
      for (const Tensor& t : factor) kept.push_back(kept_as(t, form));
    }
    call_ = call;
  }

  Streams at(int call) const {
    const double k = call - call_;
    Streams sum;
    for (const Kept& kept : factors_.front()) sum.push_back(restored(kept));
    double weight = 1;
    for (size_t i = 1; i < factors_.size(); ++i) {
      weight *= k / static_cast<double>(i);
      for (size_t s = 0; s < sum.size(); ++s) sum[s] = sum[s] + weight * restored(factors_[i][s]);
    }
    return sum;
  }

  uint64_t bytes() const {
    uint64_t total = 0;
    for (const std::vector<Kept>& factor : factors_) {
      for (const Kept& kept : factor)
        total += kept.values.nbytes() + (kept.scales.defined() ? kept.scales.nbytes() : 0);
    }
    return total;
  }

 private:
  std::vector<std::vector<Kept>> factors_;
  int call_ = 0;
};

class Taylor final : public Method {
 public:
  Taylor(TaylorSettings settings, Context context) : settings_(std::move(settings)), context_(std::move(context)) {}

  bool reuses(const SiteKey& key, const Run& run) const override {
    return is_of_interest(key) && is_skipped(run.step) && series_.contains(name_of(key, run));
  }
  Streams reuse(const SiteKey& key, const Run& run) override { return series_.at(name_of(key, run)).at(run.step.call); }
  bool keeps(const SiteKey& key, const Run& run) const override {
    return is_of_interest(key) && !is_skipped(run.step) && !is_left_out(key);
  }
  void keep(const SiteKey& key, const Run& run, const Streams& streams) override {
    series_[name_of(key, run)].update(streams, run.step.call, settings_.order, store_.form());
  }
  void ran(const SiteKey& key, const Run& run, bool reused) override {
    if (is_of_interest(key)) note_site(key, run, reused);
  }

  std::vector<Tensor> predict(Denoiser& model, const Tensor& latents, const Step& step,
                              std::span<const Branch> wanted) override {
    if (!settings_.kinds.empty()) return model.predict(latents, step, wanted);
    const Name name{"output", {wanted.begin(), wanted.end()}};
    const bool reused = is_skipped(step) && series_.contains(name);
    note({.call = step.call, .timestep = step.timestep, .what = "call", .reused = reused});
    if (reused) return series_.at(name).at(step.call);
    auto out = model.predict(latents, step, wanted);
    series_[name].update(out, step.call, settings_.order, store_.form());
    return out;
  }

  uint64_t kept_bytes() const override {
    uint64_t total = 0;
    for (const auto& [name, series] : series_) total += series.bytes();
    return total;
  }
  int64_t most_kept_values() const override { return most_values(uses()); }
  std::vector<SiteUse> uses() const override {
    std::vector<SiteUse> uses;
    for (const Site& site : settings_.kinds.empty() ? std::vector<Site>() : context_.order) {
      const SiteKey key{site.path, 0, site.kind, settings_.point};
      SiteUse& use = uses.emplace_back(SiteUse{.values = settings_.order + 1});
      bool is_held = false;
      for (int call = 0; call < static_cast<int>(context_.schedule.size()); ++call) {
        Run run;
        run.step.call = call;
        use.waits.push_back(is_held);
        use.taken.push_back(is_held && is_skipped(run.step));
        is_held = is_held || keeps(key, run);
      }
      use.waits.push_back(is_held);
    }
    return uses;
  }

 private:
  using Name = std::pair<std::string, std::vector<Branch>>;
  static Name name_of(const SiteKey& key, const Run& run) { return {std::string(key.path), branches_of(run)}; }

  bool is_of_interest(const SiteKey& key) const {
    return key.point == settings_.point &&
           std::find(settings_.kinds.begin(), settings_.kinds.end(), key.kind) != settings_.kinds.end();
  }
  bool is_skipped(const Step& step) const {
    if (step.call < settings_.first || (settings_.last >= 0 && step.call >= settings_.last)) return false;
    return (step.call - settings_.first - 1) % settings_.interval != 0;
  }

  TaylorSettings settings_;
  Context context_;
  std::map<Name, Series> series_;
};

constexpr int64_t kMostCalls = 10000, kMostOrder = 8;

std::vector<Kind> kinds_of(const std::vector<std::string>& names) {
  std::vector<Kind> kinds;
  for (const std::string& name : names) {
    const auto known = {Kind::spatial, Kind::temporal, Kind::full, Kind::cross, Kind::mlp};
    const auto found = std::find_if(known.begin(), known.end(), [&](Kind k) { return name == kind_name(k); });
    if (found == known.end())
      throw UsageError(concat("TaylorSeer: there are no sites \"", name, "\""),
                       "sites are spatial, temporal, full, cross and mlp, as sites=spatial+mlp");
    kinds.push_back(*found);
  }
  return kinds;
}

}  // namespace

std::unique_ptr<Method> make_taylor(const JsonObject& settings, const Context& context) {
  TaylorSettings s;
  s.interval = settings.int_or("interval", s.interval, 1, kMostCalls);
  s.first = settings.int_or("first", s.first, 1, kMostCalls);
  s.last = settings.int_or("last", s.last, -1, kMostCalls);
  s.order = settings.int_or("order", s.order, 0, kMostOrder);
  if (settings.has("sites")) {
    const Json& sites = *settings.find("sites");
    s.kinds = kinds_of(sites.is_string() ? std::vector<std::string>{sites.get<std::string>()}
                                         : settings.require_strings("sites"));
  }
  const std::string point = settings.string_or("point", "residual");
  if (point != "residual" && point != "module") throw UsageError("TaylorSeer: point is residual or module");
  s.point = point == "module" ? Point::module : Point::residual;
  return std::make_unique<Taylor>(std::move(s), context);
}

}  // namespace kinora::cache
