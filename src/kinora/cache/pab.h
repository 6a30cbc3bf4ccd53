// Pyramid Attention Broadcast (Zhao et al. 2024, arXiv 2408.12588): in the middle of the denoising, what an attention gave
// changes little between steps, spatial attention most and cross attention least; so each kind is computed every range-th
// call and repeated in between. The rules are those of VideoSys' PABManager (attention by counters, MLP by tables of
// timesteps), and with Point::module those of diffusers' hooks.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kinora/cache/method.h"

namespace kinora::cache {

struct PabRule {
  int64_t range = 2;              ///< one computation, then at most range - 1 repetitions
  double low = 450, high = 930;   ///< whole timesteps strictly between repeat
  Point point = Point::residual;  ///< where the reference keeps the value
  bool is_whole = true;           ///< the timestep is cut to a whole number before it is compared, as VideoSys does
  bool operator==(const PabRule&) const = default;
};

/// MLPs of some blocks: computed and kept at `timestep`, then repeated for the next `repeats` calls.
struct PabMlpWindow {
  int64_t timestep = 0;
  std::vector<int64_t> blocks;
  int64_t repeats = 2;
};

struct PabSettings {
  std::map<Kind, PabRule> attention;                                  ///< kinds that are not here are always computed
  std::map<std::string, std::vector<PabMlpWindow>, std::less<>> mlp;  ///< by the list of blocks: "spatial_blocks"
  int64_t wrap = 0;  ///< calls after which counting begins anew (the steps: PNDM makes more calls); 0: never
};

/// Whether the count-th call at a site (from 0) repeats.
bool pab_repeats(const PabRule& rule, int64_t count, double timestep);

enum class PabMlpAction : uint8_t { compute, store, repeat };
struct PabMlpDecision {
  PabMlpAction action = PabMlpAction::compute;
  bool is_last = false;  ///< of its window: what was kept is of no more use
  int64_t age = 0;       ///< calls since the one that stored
};
/// schedule: the timestep of each call. A window whose timestep is not in it does not exist.
PabMlpDecision pab_mlp(std::span<const PabMlpWindow> windows, int64_t block, double timestep,
                       std::span<const double> schedule);

/// The reference's defaults for a model class (research: VideoSys' PABConfig of each pipeline); nothing for a class without.
std::optional<PabSettings> pab_defaults(std::string_view model);

/// Moves each window to the call whose timestep is nearest, so that tables made for one schedule serve another; windows that
/// meet at one call become one.
void fit_mlp_windows(std::vector<PabMlpWindow>& windows, std::span<const double> schedule);

/// Settings: spatial, temporal, full, cross (ranges; off), window = low..high, mlp (on, off).
class Pab final : public Method {
 public:
  explicit Pab(PabSettings settings, Context context = {})
      : settings_(std::move(settings)), context_(std::move(context)) {}
  const PabSettings& settings() const { return settings_; }

  bool reuses(const SiteKey& key, const Run& run) const override;
  Streams reuse(const SiteKey& key, const Run& run) override;
  bool keeps(const SiteKey& key, const Run& run) const override;
  void keep(const SiteKey& key, const Run& run, const Streams& streams) override;
  void ran(const SiteKey& key, const Run& run, bool reused) override;
  int64_t most_kept_values() const override { return most_values(uses()); }
  std::vector<SiteUse> uses() const override;
  bool can_use_host() const override { return true; }
  /// A value is dropped when it was taken for the last time.
  bool keeps_in_place() const override { return form() == Form::same && (!budget() || budget()->on_host == 0); }

 private:
  const PabRule* rule_of(const SiteKey& key) const;
  bool is_due(const SiteKey& key, const Step& step) const;
  bool is_fresh(const SiteKey& key, const Step& step) const;
  PabMlpDecision decide_mlp(const SiteKey& key, const Step& step) const;
  int64_t count_of(const Step& step) const;

  PabSettings settings_;
  Context context_;
  std::map<std::string, int, std::less<>> kept_at_;  // the call of the last keep, by site
};

}  // namespace kinora::cache
