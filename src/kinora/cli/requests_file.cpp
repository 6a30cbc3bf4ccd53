#include "kinora/cli/requests_file.h"

#include <set>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/base/utf8.h"

namespace kinora::cli {
namespace {

constexpr uint64_t kMostBytes = uint64_t{16} << 20;
constexpr int64_t kMost = int64_t{1} << 30;

FiledRequest read_request(const std::string& line, const std::string& where) {
  const Json json = parse_json(line, {}, where);
  const JsonObject o(json, where);
  FiledRequest filed{.request = {}, .output = o.require_string("output"), .where = where};
  video::Request& r = filed.request;
  r.prompts = {o.require_string("prompt")};
  if (o.has("negative_prompt")) r.negative_prompt = o.require_string("negative_prompt");
  if (o.has("height")) r.height = o.require_int("height", 1, kMost);
  if (o.has("width")) r.width = o.require_int("width", 1, kMost);
  r.resolution = o.string_or("resolution", ""), r.aspect_ratio = o.string_or("aspect_ratio", "");
  if (o.has("num_frames")) r.num_frames = o.require_int("num_frames", 1, kMost);
  if (o.has("steps")) r.steps = o.require_int("steps", 1, kMost);
  if (o.has("guidance_scale")) r.guidance_scale = o.require_number("guidance_scale");
  if (o.has("seed")) r.seed = static_cast<uint64_t>(o.require_int("seed", 0));
  if (o.has("fps")) r.fps = o.require_number("fps");
  r.cache = o.string_or("cache", "none");
  o.refuse_unknown();
  return filed;
}

}  // namespace

std::vector<FiledRequest> read_requests(const std::filesystem::path& path) {
  const std::string name = concat("'", printable(path.string(), 200), "'");
  std::istringstream lines(read_file(path, kMostBytes));
  std::vector<FiledRequest> requests;
  std::set<std::filesystem::path> outputs;
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    requests.push_back(read_request(line, concat(name, ", line ", number)));
    if (!outputs.insert(requests.back().output.lexically_normal()).second)
      throw DataError(concat(requests.back().where, ": another request has this output"), "give each one of its own");
  }
  if (requests.empty())
    throw DataError(concat(name, " has no request"),
                    "write one a line: {\"prompt\": \"a red ball\", \"output\": \"ball.mp4\"}");
  return requests;
}

}  // namespace kinora::cli
