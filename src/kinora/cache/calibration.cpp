#include "kinora/cache/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "kinora/base/error.h"

namespace kinora::cache {
namespace {

constexpr int64_t kFormat = 1, kMostCalls = 2000;

/// Six digits: the products are means over a few clips.
double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double unit = std::pow(10.0, std::floor(std::log10(std::abs(value))) - 5);
  return std::round(value / unit) * unit;
}

/// The upper triangle, row by row.
std::vector<double> triangle_of(const Gram& gram) {
  std::vector<double> out;
  for (int64_t a = 0; a < gram.size(); ++a) {
    for (int64_t b = a; b < gram.size(); ++b) out.push_back(rounded(gram.at(a, b)));
  }
  return out;
}

Gram gram_of(const std::vector<double>& triangle, int64_t calls, const std::string& what) {
  Gram gram{calls, {}};
  const int64_t n = gram.size();
  if (static_cast<int64_t>(triangle.size()) != n * (n + 1) / 2)
    throw DataError(concat(what, ": \"gram\" holds ", triangle.size(), " numbers, not ", n * (n + 1) / 2));
  gram.products.resize(static_cast<size_t>(n * n));
  size_t next = 0;
  for (int64_t a = 0; a < n; ++a) {
    for (int64_t b = a; b < n; ++b, ++next)
      gram.products[static_cast<size_t>(a * n + b)] = gram.products[static_cast<size_t>(b * n + a)] = triangle[next];
  }
  return gram;
}

CalibratedRun run_of(const JsonObject& json) {
  CalibratedRun run;
  run.steps = json.require_int("steps", 1, kMostCalls);
  run.clips = json.require_int("clips", 1);
  run.rows = json.require_int("rows", 0);
  run.schedule = json.require_numbers("schedule");
  const auto calls = static_cast<int64_t>(run.schedule.size());
  if (calls < 1 || calls > kMostCalls) throw DataError(concat(json.what(), ": a schedule of ", calls, " calls"));
  run.gram = gram_of(json.require_numbers("gram"), calls, json.what());
  run.ratios = json.numbers_or("ratios", {});
  run.coefficients = json.numbers_or("coefficients", {});
  for (const Json& entry : json.require_array("measured")) {
    const JsonObject m(entry, concat(json.what(), " measured"));
    run.measured.push_back(
        {m.require_string("cache"), m.require_number("speed"), m.require_number("psnr"), m.require_number("ssim")});
    m.refuse_unknown();
  }
  json.refuse_unknown();
  return run;
}

}  // namespace

const CalibratedRun* Calibration::find(int64_t steps) const {
  for (const CalibratedRun& run : runs) {
    if (run.steps == steps) return &run;
  }
  return nullptr;
}

const CalibratedRun* Calibration::nearest(int64_t steps) const {
  const auto found = std::min_element(runs.begin(), runs.end(), [&](const CalibratedRun& a, const CalibratedRun& b) {
    return std::abs(a.steps - steps) < std::abs(b.steps - steps);
  });
  return found == runs.end() ? nullptr : &*found;
}

void Calibration::put(CalibratedRun run) {
  std::erase_if(runs, [&](const CalibratedRun& old) { return old.steps == run.steps; });
  runs.push_back(std::move(run));
  std::sort(runs.begin(), runs.end(), [](const CalibratedRun& a, const CalibratedRun& b) { return a.steps < b.steps; });
}

Json Calibration::to_json() const {
  Json list = Json::array();
  for (const CalibratedRun& run : runs) {
    Json measured = Json::array();
    for (const Measured& m : run.measured)
      measured.push_back(
          {{"cache", m.cache}, {"speed", rounded(m.speed)}, {"psnr", rounded(m.psnr)}, {"ssim", rounded(m.ssim)}});
    list.push_back({{"steps", run.steps},
                    {"clips", run.clips},
                    {"rows", run.rows},
                    {"schedule", run.schedule},
                    {"gram", triangle_of(run.gram)},
                    {"ratios", run.ratios},
                    {"coefficients", run.coefficients},
                    {"measured", std::move(measured)}});
  }
  return {{"format", kFormat}, {"model", model}, {"weights", weights}, {"runs", std::move(list)}};
}

Calibration Calibration::from_json(const Json& json, const std::string& what) {
  const JsonObject object(json, what);
  object.require_int("format", kFormat, kFormat);
  Calibration calibration;
  calibration.model = object.require_string("model");
  calibration.weights = static_cast<uint32_t>(object.require_int("weights", 0, UINT32_MAX));
  for (const Json& entry : object.require_array("runs")) calibration.put(run_of(JsonObject(entry, what + " runs")));
  object.refuse_unknown();
  return calibration;
}

}  // namespace kinora::cache
