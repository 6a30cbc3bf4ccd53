// What a cache decided, as a file of JSON lines: written by `generate --trace`, read by `plot`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "kinora/cache/method.h"

namespace kinora::cache {

/// {"call", "timestep", "what", "reused"}, with "path" for a site and "change" where it was measured.
Json trace_line(const Decision& decision);

/// A Decision that owns its words.
struct TracedDecision {
  int64_t call = 0;
  double timestep = 0;
  std::string what, path;
  bool reused = false;
  double change = std::numeric_limits<double>::quiet_NaN();
};

/// Every decision, in the order of the file. Throws UsageError for a file that is not there; DataError naming the line for
/// one that is no JSON, lacks a key or has one that no trace has, and for a file without a decision or over 256 MiB.
std::vector<TracedDecision> read_trace(const std::filesystem::path& path);

}  // namespace kinora::cache
