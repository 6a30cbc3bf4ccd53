#include "seams/policies.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kinora/cache/methods.h"
#include "kinora/cache/registry.h"

namespace kinora::seams {

Watched::Watched(std::unique_ptr<cache::Method> method) : method_(std::move(method)) {
  method_->on_decision = [this](const cache::Decision& d) {
    const char letter = d.reused ? 'R' : 'C';
    if (d.what == "blocks") {
      calls += letter;
      if (!std::isnan(d.change)) changes.push_back(d.change);
    } else if (d.what != cache::kind_name(Kind::mlp)) {
      sites[std::string(d.path)] += letter;
    }
  };
}

Streams Watched::reuse(const SiteKey& key, const Run& run) {
  oldest = std::max(oldest, run.step.call - kept_at_.at(std::string(key.path)));
  return method_->reuse(key, run);
}

void Watched::keep(const SiteKey& key, const Run& run, const Streams& streams) {
  kept_at_[std::string(key.path)] = run.step.call;
  method_->keep(key, run, streams);
}

int Watched::count(char letter) const {
  int64_t n = 0;
  for (const auto& [path, letters] : sites) n += std::count(letters.begin(), letters.end(), letter);
  return static_cast<int>(n);
}

PabRules usual_rules() {
  PabRules rules;
  for (const auto& [kind, range] :
       {std::pair{Kind::spatial, 2}, {Kind::full, 2}, {Kind::temporal, 4}, {Kind::cross, 6}})
    rules[kind] = {.range = range, .low = 100, .high = 800, .point = Point::module, .is_whole = false};
  return rules;
}

std::unique_ptr<cache::Method> make_pab(PabRules rules) {
  return std::make_unique<cache::Pab>(cache::PabSettings{.attention = std::move(rules), .mlp = {}});
}

std::unique_ptr<cache::Method> make_first_block(double threshold) {
  const Json settings{{"threshold", threshold}};
  return cache::make_first_block(JsonObject(settings, "first-block"), {});
}

std::unique_ptr<cache::Method> make_cache(const std::string& text, const Subject& subject) {
  const bool has_temporal = !subject.has_text_stream;
  return cache::make_method(text, {.model = subject.name,
                                   .sites = {{Kind::temporal, has_temporal ? subject.blocks / 2 : 0}},
                                   .schedule = {std::begin(kSchedule), std::end(kSchedule)},
                                   .steps = static_cast<int64_t>(std::size(kSchedule))});
}

}  // namespace kinora::seams
