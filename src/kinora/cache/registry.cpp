#include "kinora/cache/registry.h"

#include <charconv>

#include "kinora/base/error.h"
#include "kinora/cache/fit_budget.h"
#include "kinora/cache/methods.h"

namespace kinora::cache {
namespace {

Json parse_value(std::string_view text) {
  if (text == "true" || text == "on") return true;
  if (text == "false" || text == "off") return false;
  const char* const end = text.data() + text.size();
  int64_t whole = 0;
  if (const auto [at, error] = std::from_chars(text.data(), end, whole); error == std::errc() && at == end)
    return whole;
  double number = 0;
  if (const auto [at, error] = std::from_chars(text.data(), end, number); error == std::errc() && at == end)
    return number;
  if (const size_t dots = text.find(".."); dots != std::string_view::npos)
    return Json::array({parse_value(text.substr(0, dots)), parse_value(text.substr(dots + 2))});
  if (text.find('+') != std::string_view::npos) {
    Json list = Json::array();
    for (size_t from = 0; from <= text.size();) {
      const size_t plus = std::min(text.find('+', from), text.size());
      list.push_back(parse_value(text.substr(from, plus - from)));
      from = plus + 1;
    }
    return list;
  }
  return std::string(text);
}

/// The setting that all methods have.
Form take_form(Json& settings) {
  const auto keep = settings.find("keep");
  if (keep == settings.end()) return Form::same;
  const Form form = form_of(keep->is_string() ? keep->get<std::string>() : keep->dump());
  settings.erase(keep);
  return form;
}

}  // namespace

const std::vector<MethodRow>& methods() {
  static const std::vector<MethodRow> rows{
      {"pab", "Pyramid Attention Broadcast: attentions and MLPs repeated for a few steps", make_pab},
      {"tea", "TeaCache: the blocks' sum repeated while the modulated input changes little", make_tea},
      {"first-block", "First-Block-Cache: all but the first block repeated while that changes little",
       make_first_block},
      {"dual-block", "DBCache: the middle blocks repeated while the first ones change little", make_dual_block},
      {"taylor", "TaylorSeer: the output, or sites, extrapolated between every few steps", make_taylor},
      {"easy", "EasyCache: the output moved along with the latents while they change little", make_easy},
      {"ada", "AdaCache: the blocks' sum repeated for longer where temporal attention changes less", make_ada},
      {"faster", "FasterCache: attentions extrapolated, guidance's second branch made from the first", make_faster},
      {"planned", "planned: calls chosen beforehand by a calibration, the others made up from them", make_planned},
      {"mag", "MagCache: the blocks' sum repeated by ratios measured for the model", make_mag},
  };
  return rows;
}

Json parse_settings(std::string_view text) {
  Json settings = Json::object();
  for (size_t from = 0; from < text.size();) {
    const size_t comma = std::min(text.find(',', from), text.size());
    const std::string_view item = text.substr(from, comma - from);
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == item.size())
      throw UsageError(concat("\"", item, "\" is no setting of a cache"),
                       "write NAME:KEY=VALUE,KEY=VALUE, such as pab:spatial=2,temporal=4");
    const std::string key(item.substr(0, equals));
    if (settings.contains(key)) throw UsageError(concat("the cache's setting \"", key, "\" is there twice"));
    settings[key] = parse_value(item.substr(equals + 1));
    from = comma + 1;
  }
  return settings;
}

double threshold_of(const JsonObject& settings, double fallback) {
  constexpr double kMost = 1000;
  const double threshold = settings.number_or("threshold", fallback);
  if (!(threshold >= 0 && threshold <= kMost))
    throw UsageError(concat(settings.what(), ": a threshold cannot be ", threshold), concat("choose 0 to ", kMost));
  return threshold;
}

std::unique_ptr<Method> make_method(std::string_view text, const Context& context) {
  const size_t colon = std::min(text.find(':'), text.size());
  const std::string_view name = text.substr(0, colon);
  Json settings = parse_settings(colon < text.size() ? text.substr(colon + 1) : std::string_view());
  if (name == "none") {
    if (!settings.empty()) throw UsageError("no cache has no settings");
    if (context.budget > 0) throw UsageError("there is a budget for a cache, and no cache", "add --cache pab");
    return nullptr;
  }
  const Form form = take_form(settings);
  std::string names = "none, auto";
  for (const MethodRow& row : methods()) {
    names += concat(", ", row.name);
    if (name != row.name) continue;
    const JsonObject object(settings, concat("cache ", name));
    try {
      auto method = row.make(object, context);
      object.refuse_unknown();
      if (form != Form::same && !method->has_form())
        throw UsageError(concat("the cache ", name, " keeps nothing but latents, as they are"), "leave keep= out");
      method->keep_as(form);
      if (context.budget > 0) fit_budget(*method, context, name);
      return method;
    } catch (const DataError& error) {  // the settings are the caller's, not a file's
      throw UsageError(error.what(), error.hint());
    }
  }
  throw UsageError(concat("there is no cache \"", name, "\""), concat("the caches are: ", names));
}

}  // namespace kinora::cache
