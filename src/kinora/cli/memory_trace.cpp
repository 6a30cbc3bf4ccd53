#include "kinora/cli/memory_trace.h"

#include <ATen/record_function.h>

#include <ctime>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/utf8.h"

namespace kinora::cli {
namespace {

constexpr uint64_t kMostBytes = uint64_t{64} << 20;
constexpr const char* kHint = "kinora bench chunk gpt --budget 0.2 --trace FILE writes one";

struct Sampler {
  Ledger& ledger;
  MemoryTrace& trace;
  uint64_t base;
  std::clock_t begin = std::clock();
  void sample() const {
    trace.seconds.push_back(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
    trace.bytes.push_back(static_cast<double>(ledger.peak_total()) - static_cast<double>(base));
    ledger.reset_peaks();
  }
};

thread_local const Sampler* active = nullptr;  // LibTorch's callbacks are plain functions

std::unique_ptr<at::ObserverContext> on_begin(const at::RecordFunction&) { return nullptr; }
void on_end(const at::RecordFunction&, at::ObserverContext*) {
  if (active != nullptr) active->sample();
}

MemoryTrace trace_of(const std::string& line, const std::string& what) {
  const Json json = parse_json(line, {.max_bytes = kMostBytes, .max_depth = 4}, what);
  const JsonObject object(json, what);
  MemoryTrace out{object.require_string("way"), object.require_numbers("seconds"), object.require_numbers("bytes")};
  object.refuse_unknown();
  if (out.seconds.size() != out.bytes.size() || out.bytes.empty()) {
    throw DataError(concat(what, ": ", out.seconds.size(), " times for ", out.bytes.size(), " amounts of memory"),
                    kHint);
  }
  return out;
}

bool is_memory_trace(const std::string& line) {
  try {
    const Json json = parse_json(line, {.max_bytes = kMostBytes, .max_depth = 4}, "a line");
    return json.is_object() && json.contains("way");
  } catch (const DataError&) {
    return false;
  }
}

}  // namespace

MemoryTrace trace_memory(Ledger& ledger, std::string way, const std::function<void()>& work) {
  MemoryTrace trace{.way = std::move(way), .seconds = {}, .bytes = {}};
  ledger.reset_peaks();
  const Sampler sampler{ledger, trace, ledger.current_total()};
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(on_begin, on_end).scopes({at::RecordScope::FUNCTION}));
  active = &sampler;
  try {
    work();
  } catch (...) {
    active = nullptr;
    at::removeCallback(handle);
    throw;
  }
  active = nullptr;
  at::removeCallback(handle);
  return trace;
}

Json trace_line(const MemoryTrace& trace) {
  return {{"way", trace.way}, {"seconds", trace.seconds}, {"bytes", trace.bytes}};
}

std::vector<MemoryTrace> read_memory_traces(const std::filesystem::path& path) {
  const std::string name = concat("'", printable(path.string(), 200), "'");
  std::istringstream lines(read_file(path, kMostBytes));
  std::vector<MemoryTrace> out;
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (number == 1 && !is_memory_trace(line)) return {};
    out.push_back(trace_of(line, concat(name, ", line ", number)));
  }
  return out;
}

}  // namespace kinora::cli
