// What a cache did in a run: counted, told in one line, and traced to a file.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/video/pipeline.h"

namespace kinora::cli {

/// What a calibration says of the cache that it chose for the plan: "planned:calls=14 was 3.76 times as fast ...".
std::string expectation_of(const video::Plan& plan);
/// {"limit_bytes", "bytes", "all_bytes", "sites_kept", "sites", "sites_on_host", "saving"}.
Json json_of(const cache::BudgetUse& use);

class CacheReport {
 public:
  using Hits = std::map<std::string, cache::Hits, std::less<>>;  ///< by kind of site
  /// `name`: what --cache said. trace: a file of JSON lines, or empty; it appears when the run has ended. Throws
  /// ResourceError where it cannot be written, UsageError for a trace without a cache.
  CacheReport(std::string name, const std::filesystem::path& trace);
  /// The report must outlive the hooks.
  void attach(video::Hooks& hooks);
  /// Says the counts, and gives the trace its name.
  void finish();
  /// {"name", "hits": {"spatial": {"computed", "reused"}, ...}}, and with --cache-memory "budget".
  Json json() const;
  const Hits& hits() const { return hits_; }
  static Json json(const Hits& hits);

 private:
  std::string name_;
  Hits hits_;
  std::optional<cache::BudgetUse> budget_;
  std::optional<AtomicFile> trace_;
};

}  // namespace kinora::cli
