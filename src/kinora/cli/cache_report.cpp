#include "kinora/cli/cache_report.h"

#include <iomanip>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/memory.h"
#include "kinora/cache/trace.h"

namespace kinora::cli {

std::string expectation_of(const video::Plan& plan) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2) << "cache " << plan.expected->cache << ": in the calibration "
      << plan.expected->speed << " times as fast to denoise, " << plan.expected->psnr << " dB from the plain clips";
  return out.str();
}

Json json_of(const cache::BudgetUse& use) {
  return {{"limit_bytes", use.limit}, {"bytes", use.bytes}, {"all_bytes", use.all_bytes},
          {"sites_kept", use.kept},   {"sites", use.sites}, {"sites_on_host", use.on_host},
          {"saving", use.share}};
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
    budget_ = method.budget();
  };
  if (!trace_) return;
  hooks.on_decision = [this](const cache::Decision& d) { trace_->write(cache::trace_line(d).dump() + "\n"); };
}

void CacheReport::finish() {
  if (trace_) trace_->commit();
  if (hits_.empty()) return;
  std::string text;
  for (const auto& [what, hits] : hits_)
    text += concat(text.empty() ? "" : ", ", what, " ", hits.reused, " of ", hits.reused + hits.computed);
  log_info(concat("cache ", name_, ": reused ", text));
  if (!budget_ || budget_->sites == 0) return;
  log_info(concat("cache ", name_, " within ", human_bytes(budget_->limit), ": ", cache::text_of(*budget_)));
}

Json CacheReport::json(const Hits& hits) {
  Json out = Json::object();
  for (const auto& [what, h] : hits) out[what] = {{"computed", h.computed}, {"reused", h.reused}};
  return out;
}

Json CacheReport::json() const {
  Json out = {{"name", name_}, {"hits", json(hits_)}};
  if (budget_) out["budget"] = json_of(*budget_);
  return out;
}

}  // namespace kinora::cli
