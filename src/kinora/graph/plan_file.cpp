#include "kinora/graph/plan_file.h"

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/base/log.h"
#include "kinora/graph/hash.h"

namespace kinora::graph {
namespace {

constexpr int kVersion = 1;

std::string key_of(const Graph& graph, const PlanOptions& o) {
  const Machine& m = o.machine;
  return concat(hash_of(graph), " budget ", o.budget, o.exact ? " exact" : " close", " align ", o.align_rows,
                " window ", o.window, " cpu ", m.seconds_per_call, " ", m.product_flops, " ", m.attention_flops, " ",
                m.convolution_flops, " ", m.bytes_per_second);
}

Json json_of(const Plan& p) {
  Json regions = Json::array();
  for (const Region& r : p.regions) regions.push_back({r.begin, r.end, static_cast<int>(r.kind), r.dim, r.chunk});
  return {{"regions", regions},
          {"bytes", p.bytes},
          {"seconds", p.seconds},
          {"whole_bytes", p.whole_bytes},
          {"whole_seconds", p.whole_seconds}};
}

Plan plan_of(const JsonObject& json) {
  Plan p{.bytes = json.require_int("bytes"),
         .seconds = json.require_number("seconds"),
         .whole_bytes = json.require_int("whole_bytes"),
         .whole_seconds = json.require_number("whole_seconds")};
  for (const Json& r : json.require_array("regions")) {
    if (!r.is_array() || r.size() != 5 ||
        !std::all_of(r.begin(), r.end(), [](const Json& n) { return n.is_number_integer(); })) {
      throw DataError(concat(json.what(), ": a region is not five whole numbers"));
    }
    p.regions.push_back({r[0].get<int>(), r[1].get<int>(),
                         r[2].get<int>() == 1 ? RegionKind::columns : RegionKind::rows, r[3].get<int>(),
                         r[4].get<int64_t>()});
  }
  return p;
}

/// Every region runs on this graph, in order, within the budget that was asked for.
bool fits(const Graph& graph, const Plan& plan, const PlanOptions& options) {
  Router router(graph);
  int end = 0;
  for (const Region& r : plan.regions) {
    if (r.begin < end || r.begin >= r.end || r.end > graph.size() || r.dim < 0 || r.chunk < 1 || !router.runs(r))
      return false;
    end = r.end;
  }
  return plan.bytes <= options.budget;
}

}  // namespace

PlanFile::PlanFile(std::filesystem::path path, std::string build) : path_(std::move(path)), build_(std::move(build)) {
  if (path_.empty() || !std::filesystem::exists(path_)) return;
  try {
    const Json json = read_json_file(path_, {.max_bytes = kJsonTokenizerBytes});
    const JsonObject file(json, path_.string());
    if (file.require_int("version") != kVersion || file.require_string("build") != build_) return;
    const JsonObject plans = file.require_object("plans");
    for (const auto& [key, value] : plans.json().items())
      plans_.emplace(key, plan_of(JsonObject(value, path_.string())));
  } catch (const Error& e) {
    log_warn(concat("plans are made anew: ", e.what()));
    plans_.clear();
  }
}

std::optional<Plan> PlanFile::find(const Graph& graph, const PlanOptions& options) {
  const auto found = plans_.find(key_of(graph, options));
  if (found == plans_.end() || !fits(graph, found->second, options)) return std::nullopt;
  return found->second;
}

void PlanFile::put(const Graph& graph, const PlanOptions& options, const Plan& plan) {
  plans_[key_of(graph, options)] = plan;
  is_new_ = true;
}

void PlanFile::save() {
  if (path_.empty() || !is_new_) return;
  Json plans = Json::object();
  for (const auto& [key, plan] : plans_) plans[key] = json_of(plan);
  write_file(path_, Json{{"version", kVersion}, {"build", build_}, {"plans", plans}}.dump(1));
  is_new_ = false;
}

}  // namespace kinora::graph
