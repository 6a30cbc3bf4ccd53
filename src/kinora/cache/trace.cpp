#include "kinora/cache/trace.h"

#include <cmath>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/utf8.h"

namespace kinora::cache {
namespace {

constexpr uint64_t kMostBytes = uint64_t{256} << 20;
constexpr size_t kMostLineBytes = 4096;
constexpr int64_t kMostCalls = 1'000'000;

TracedDecision decision_of(std::string_view line, const std::string& what) {
  const Json json = parse_json(line, {.max_bytes = kMostLineBytes, .max_depth = 4}, what);
  const JsonObject object(json, what);
  TracedDecision out{.call = object.require_int("call", 0, kMostCalls),
                     .timestep = object.require_number("timestep"),
                     .what = object.require_string("what"),
                     .path = object.string_or("path", ""),
                     .reused = object.require_bool("reused")};
  if (object.has("change")) out.change = object.require_number("change");
  object.refuse_unknown();
  return out;
}

}  // namespace

Json trace_line(const Decision& d) {
  Json line = {{"call", d.call}, {"timestep", d.timestep}, {"what", d.what}, {"reused", d.reused}};
  if (!d.path.empty()) line["path"] = d.path;
  if (std::isfinite(d.change)) line["change"] = d.change;
  return line;
}

std::vector<TracedDecision> read_trace(const std::filesystem::path& path) {
  const std::string name = concat("'", printable(path.string(), 200), "'");
  const std::string text = read_file(path, kMostBytes);
  std::vector<TracedDecision> out;
  std::string_view rest = text;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    try {
      out.push_back(decision_of(line, concat(name, ", line ", number)));
    } catch (const DataError& error) {
      throw DataError(error.what(), "a trace is what kinora generate --cache NAME --trace FILE writes");
    }
  }
  if (out.empty())
    throw DataError(name + " has no decision", "a trace is what kinora generate --cache NAME --trace FILE writes");
  return out;
}

}  // namespace kinora::cache
