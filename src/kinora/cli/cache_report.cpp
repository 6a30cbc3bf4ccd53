#include "kinora/cli/cache_report.h"

#include <cmath>
#include <iomanip>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/base/log.h"

namespace kinora::cli {

std::string expectation_of(const video::Plan& plan) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << "cache " << plan.expected->cache << ": in the calibration "
      << plan.expected->speed << " times as fast to denoise, " << plan.expected->psnr << " dB from the plain clips";
  return out.str();
}

CacheReport::CacheReport(std::string name, const std::filesystem::path& trace) : name_(std::move(name)) {
  if (trace.empty()) return;
  if (name_ == "none") throw UsageError("--trace writes what a cache decides, and there is none", "add --cache pab");
  trace_.emplace(trace);
}

void CacheReport::attach(video::Hooks& hooks) {
  hooks.on_cache = [this](const cache::Method& method) {
    for (const auto& [what, hits] : method.hits()) {
      hits_[what].computed += hits.computed;
      hits_[what].reused += hits.reused;
    }
  };
  if (!trace_) return;
  hooks.on_decision = [this](const cache::Decision& d) {
    Json line = {{"call", d.call}, {"timestep", d.timestep}, {"what", d.what}, {"reused", d.reused}};
    if (!d.path.empty()) line["path"] = d.path;
    if (std::isfinite(d.change)) line["change"] = d.change;
    trace_->write(line.dump() + "\n");
  };
}

void CacheReport::finish() {
  if (trace_) trace_->commit();
  if (hits_.empty()) return;
  std::string text;
  for (const auto& [what, hits] : hits_)
    text += concat(text.empty() ? "" : ", ", what, " ", hits.reused, " of ", hits.reused + hits.computed);
  log_info(concat("cache ", name_, ": reused ", text));
}

Json CacheReport::json() const {
  Json hits = Json::object();
  for (const auto& [what, h] : hits_) hits[what] = {{"computed", h.computed}, {"reused", h.reused}};
  return {{"name", name_}, {"hits", hits}};
}

}  // namespace kinora::cli
