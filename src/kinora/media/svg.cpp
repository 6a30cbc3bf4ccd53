#include "kinora/media/svg.h"

#include "kinora/base/error.h"
#include "kinora/base/file.h"

namespace kinora::media {
namespace {

constexpr int kLeft = 72, kRight = 16, kTop = 36, kBottom = 48;
constexpr int kSmallest = 160;

}  // namespace

std::string line_plot_svg(const LinePlot& plot) {
  if (plot.width < kSmallest || plot.height < kSmallest)
    throw UsageError(concat("plot: ", plot.width, "x", plot.height, " is too small"));
  for (const Series& series : plot.series) {
    if (series.x.size() != series.y.size()) {
      throw UsageError(
          concat("plot: series '", series.label, "' has ", series.x.size(), " x and ", series.y.size(), " y"));
    }
  }
  svg::Axis x = svg::x_axis_of(plot.series, plot.log_y), y = svg::y_axis_of(plot.series, plot.log_y, 0.05);
  x.first_px = kLeft, x.last_px = plot.width - kRight;
  y.first_px = plot.height - kBottom, y.last_px = kTop;
  std::string body = svg::x_ticks(x, y, 7, plot.x_label) + svg::y_ticks(x, y, 6, plot.y_label);
  for (size_t i = 0; i < plot.series.size(); ++i) body += svg::curve(plot.series[i], x, y, i);
  body += svg::legend(plot.series, x.last_px - 10, kTop + 14);
  return svg::page(plot.width, plot.height, plot.title, body);
}

void save_line_plot(const std::filesystem::path& path, const LinePlot& plot) { write_file(path, line_plot_svg(plot)); }

}  // namespace kinora::media
