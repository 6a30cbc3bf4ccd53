// Memory over time: what the ledger counts after each operator of a computation, as JSON lines that `kinora plot` draws.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/tensor/ledger.h"

namespace kinora::cli {

/// Of one way to compute something.
struct MemoryTrace {
  std::string way;
  std::vector<double> seconds;  ///< of the processor, since the begin
  std::vector<double> bytes;    ///< more than at the begin, at the most while an operator ran
};

/// Runs `work` on this thread; peaks of the ledger start anew.
MemoryTrace trace_memory(Ledger& ledger, std::string way, const std::function<void()>& work);

/// {"way", "seconds", "bytes"}.
Json trace_line(const MemoryTrace& trace);
/// Every line of a file; none where its first line is of another kind. Throws UsageError for a file that is not there,
/// DataError naming the line for one that is damaged.
std::vector<MemoryTrace> read_memory_traces(const std::filesystem::path& path);

}  // namespace kinora::cli
