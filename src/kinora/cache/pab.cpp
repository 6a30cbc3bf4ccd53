#include "kinora/cache/pab.h"

#include <algorithm>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/cache/branches.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

constexpr int64_t kMostTimestep = 1000, kMostRange = 1000;

int64_t whole(double timestep) { return static_cast<int64_t>(timestep); }

std::vector<int64_t> first_blocks(int64_t count) {
  std::vector<int64_t> blocks;
  for (int64_t b = 0; b < count; ++b) blocks.push_back(b);
  return blocks;
}

std::vector<PabMlpWindow> windows_at(std::initializer_list<int64_t> timesteps, int64_t blocks) {
  std::vector<PabMlpWindow> windows;
  for (const int64_t t : timesteps) windows.push_back({t, first_blocks(blocks), 2});
  return windows;
}

PabSettings ranges(std::map<Kind, int64_t> by_kind, double low, double high, Point point) {
  PabSettings settings;
  for (const auto& [kind, range] : by_kind)
    settings.attention[kind] = {.range = range, .low = low, .high = high, .point = point};
  return settings;
}

}  // namespace

bool pab_repeats(const PabRule& rule, int64_t count, double timestep) {
  const double t = rule.is_whole ? std::trunc(timestep) : timestep;
  return count % rule.range != 0 && rule.low < t && t < rule.high;
}

PabMlpDecision pab_mlp(std::span<const PabMlpWindow> windows, int64_t block, double timestep,
                       std::span<const double> schedule) {
  const int64_t now = whole(timestep);
  const auto lists = [&](const PabMlpWindow& w) {
    return std::find(w.blocks.begin(), w.blocks.end(), block) != w.blocks.end();
  };
  for (const PabMlpWindow& w : windows) {
    if (w.timestep == now && lists(w)) return {PabMlpAction::store};
  }
  for (const PabMlpWindow& w : windows) {
    const auto begin = std::find_if(schedule.begin(), schedule.end(), [&](double t) { return whole(t) == w.timestep; });
    const auto end = schedule.end() - begin > w.repeats ? begin + w.repeats + 1 : schedule.end();
    const auto at = std::find_if(begin, end, [&](double t) { return whole(t) == now; });
    if (at == end) continue;
    if (!lists(w)) return {};
    return {PabMlpAction::repeat, whole(*(end - 1)) == now, at - begin};
  }
  return {};
}

std::optional<PabSettings> pab_defaults(std::string_view model) {
  using enum Kind;
  if (model == "STDiT3") {
    PabSettings settings = ranges({{spatial, 2}, {temporal, 4}, {cross, 6}}, 450, 930, Point::residual);
    for (const char* list : {"spatial_blocks", "temporal_blocks"}) settings.mlp[list] = windows_at({864, 788, 676}, 5);
    return settings;
  }
  if (model == "LatteTransformer3DModel") {
    PabSettings settings = ranges({{spatial, 2}, {temporal, 3}, {cross, 6}}, 100, 800, Point::residual);
    for (const char* list : {"transformer_blocks", "temporal_transformer_blocks"})
      settings.mlp[list] = windows_at({720, 640, 560, 480, 400}, 5);
    return settings;
  }
  if (model == "CogVideoXTransformer3DModel") return ranges({{full, 2}}, 100, 850, Point::module);
  return std::nullopt;
}

void fit_mlp_windows(std::vector<PabMlpWindow>& windows, std::span<const double> schedule) {
  if (schedule.empty()) return;
  std::vector<PabMlpWindow> fitted;
  for (PabMlpWindow w : windows) {
    const auto distance = [&](double t) { return std::abs(t - static_cast<double>(w.timestep)); };
    w.timestep = whole(*std::min_element(schedule.begin(), schedule.end(),
                                         [&](double a, double b) { return distance(a) < distance(b); }));
    const auto same = [&](const PabMlpWindow& other) { return other.timestep == w.timestep; };
    if (std::none_of(fitted.begin(), fitted.end(), same)) fitted.push_back(std::move(w));
  }
  windows = std::move(fitted);
}

const PabRule* Pab::rule_of(const SiteKey& key) const {
  const auto rule = settings_.attention.find(key.kind);
  return rule != settings_.attention.end() && rule->second.point == key.point ? &rule->second : nullptr;
}

PabMlpDecision Pab::decide_mlp(const SiteKey& key, const Step& step) const {
  if (key.kind != Kind::mlp || key.point != Point::residual) return {};
  const auto [list, number] = block_name(key.path);
  const auto windows = settings_.mlp.find(list);
  return windows == settings_.mlp.end() ? PabMlpDecision{}
                                        : pab_mlp(windows->second, number, step.timestep, step.schedule);
}

int64_t Pab::count_of(const Step& step) const { return settings_.wrap > 0 ? step.call % settings_.wrap : step.call; }

bool Pab::is_due(const SiteKey& key, const Step& step) const {
  const PabRule* rule = rule_of(key);
  return rule ? pab_repeats(*rule, count_of(step), step.timestep)
              : decide_mlp(key, step).action == PabMlpAction::repeat;
}

/// Where another policy owns the loop and leaves blocks out, the call that should have kept a value may never have come here,
/// and what there is would be older than the rule allows.
bool Pab::is_fresh(const SiteKey& key, const Step& step) const {
  const PabRule* rule = rule_of(key);
  const auto kept = kept_at_.find(key.path);
  return kept != kept_at_.end() && step.call - kept->second <= (rule ? rule->range - 1 : decide_mlp(key, step).age);
}

bool Pab::reuses(const SiteKey& key, const Run& run) const {
  return is_due(key, run.step) && is_fresh(key, run.step) && store_.has(key.path, branches_of(run));
}

Streams Pab::reuse(const SiteKey& key, const Run& run) {
  Streams streams = store_.find(key.path, branches_of(run)).value();
  if (decide_mlp(key, run.step).is_last) store_.drop(key.path, branches_of(run));
  return streams;
}

bool Pab::keeps(const SiteKey& key, const Run& run) const {
  if (is_left_out(key)) return false;
  const PabRule* rule = rule_of(key);
  if (!rule) return decide_mlp(key, run.step).action == PabMlpAction::store;
  // Of use only where the next call repeats it.
  const auto next = static_cast<size_t>(run.step.call) + 1;
  if (next >= run.step.schedule.size()) return false;
  Step step = run.step;
  ++step.call;
  return pab_repeats(*rule, count_of(step), run.step.schedule[next]);
}

void Pab::keep(const SiteKey& key, const Run& run, const Streams& streams) {
  kept_at_.insert_or_assign(std::string(key.path), run.step.call);
  store_.put(key.path, branches_of(run), streams);
}

void Pab::ran(const SiteKey& key, const Run& run, bool reused) {
  const auto rule = settings_.attention.find(key.kind);
  if (key.point != (rule == settings_.attention.end() ? Point::residual : rule->second.point)) return;
  if (rule_of(key) && reused && !keeps(key, run)) store_.drop(key.path, branches_of(run));
  note_site(key, run, reused);
}

std::vector<SiteUse> Pab::uses() const {
  const std::span<const double> schedule = context_.schedule;
  std::vector<SiteUse> uses;
  for (const Site& site : context_.order) {
    const auto rule = settings_.attention.find(site.kind);
    const SiteKey key{site.path, 0, site.kind,
                      rule != settings_.attention.end() ? rule->second.point : Point::residual};
    SiteUse& use = uses.emplace_back();
    bool is_held = false;
    for (size_t call = 0; call < schedule.size(); ++call) {
      Run run;
      run.step = {.call = static_cast<int>(call), .timestep = schedule[call], .schedule = schedule};
      use.waits.push_back(is_held);
      use.taken.push_back(is_held && is_due(key, run.step));
      if (use.taken.back()) {
        is_held = rule_of(key) ? keeps(key, run) : !decide_mlp(key, run.step).is_last;
      } else {
        is_held = is_held || keeps(key, run);
      }
    }
    use.waits.push_back(is_held);
  }
  return uses;
}

std::unique_ptr<Method> make_pab(const JsonObject& settings, const Context& context) {
  auto defaults = pab_defaults(context.model);
  if (!defaults) throw UsageError(concat("PAB has no settings for ", context.model));
  for (const Kind kind : {Kind::spatial, Kind::temporal, Kind::full, Kind::cross}) {
    const std::string name(kind_name(kind));
    if (!settings.has(name)) continue;
    const auto rule = defaults->attention.find(kind);
    if (rule == defaults->attention.end())
      throw UsageError(concat("PAB: ", context.model, " has no ", name, " attention"));
    const Json& value = *settings.find(name);
    const bool is_off = value.is_boolean() && !value.get<bool>();
    if (is_off)
      defaults->attention.erase(rule);
    else
      rule->second.range = settings.require_int(name, 1, kMostRange);
  }
  if (settings.has("window")) {
    const auto window = settings.require_numbers("window");
    if (window.size() != 2 || window[0] < 0 || window[1] > kMostTimestep || window[0] > window[1])
      throw UsageError("PAB: the window must be low..high within 0..1000", "such as window=450..930");
    for (auto& [kind, rule] : defaults->attention) rule.low = window[0], rule.high = window[1];
  }
  if (!settings.bool_or("mlp", true)) defaults->mlp.clear();
  for (auto& [list, windows] : defaults->mlp) fit_mlp_windows(windows, context.schedule);
  if (context.schedule.size() != static_cast<size_t>(context.steps)) defaults->wrap = context.steps;
  return std::make_unique<Pab>(std::move(*defaults), context);
}

}  // namespace kinora::cache
