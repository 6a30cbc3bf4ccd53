#include "kinora/offload/alpha.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kinora/base/error.h"

namespace kinora::offload {
namespace {

double median(const SideSeconds& side, int64_t rows, int runs) {
  if (rows == 0) return 0;
  std::vector<double> seconds;
  for (int i = 0; i < runs; ++i) seconds.push_back(side(rows));
  const auto middle = seconds.begin() + runs / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

/// Where cpu(k) = device(rows - k).
double meeting_point(const Line& cpu, const Line& device, int64_t rows) {
  const double slopes = cpu.slope + device.slope;
  const double lead = device.at(static_cast<double>(rows)) - cpu.fixed;
  if (!(slopes > 0)) return lead > 0 ? static_cast<double>(rows) : 0;
  return std::clamp(lead / slopes, 0.0, static_cast<double>(rows));
}

}  // namespace

Line fit_line(std::span<const std::pair<double, double>> points) {
  double x = 0, y = 0, xx = 0, xy = 0;
  const auto n = static_cast<double>(points.size());
  for (const auto& [px, py] : points) x += px, y += py, xx += px * px, xy += px * py;
  const double spread = n * xx - x * x;
  if (!(spread > 0)) throw UsageError("a line through one point", "time at least two different numbers of rows");
  const double slope = (n * xy - x * y) / spread;
  return {.fixed = (y - slope * x) / n, .slope = slope};
}

Alpha find_alpha(int64_t rows, const SideSeconds& cpu, const SideSeconds& device, const AlphaOptions& options) {
  std::vector<std::pair<double, double>> of_cpu, of_device;
  for (int i = 1; i <= options.points; ++i) {
    const int64_t some = std::max<int64_t>(1, rows * i / options.points);
    of_cpu.emplace_back(some, median(cpu, some, options.runs));
    of_device.emplace_back(some, median(device, some, options.runs));
  }
  Alpha alpha{.cpu = fit_line(of_cpu), .device = fit_line(of_device)};
  const double units = std::round(meeting_point(alpha.cpu, alpha.device, rows) / static_cast<double>(options.unit));
  for (const double step : {0.0, -1.0, 1.0}) {
    const auto k = static_cast<int64_t>(units + step) * options.unit;
    if (k < 0 || k >= rows + options.unit) continue;
    const int64_t some = std::min(k, rows);
    const double seconds = std::max(median(cpu, some, options.runs), median(device, rows - some, options.runs));
    if (step == 0.0 || seconds < alpha.seconds) alpha.cpu_rows = some, alpha.seconds = seconds;
  }
  return alpha;
}

}  // namespace kinora::offload
