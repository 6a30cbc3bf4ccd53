#include "kinora/media/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/media/metadata.h"

namespace kinora::media {
namespace {

constexpr int kLeft = 72, kRight = 16, kTop = 36, kBottom = 48, kLegendRow = 16;
constexpr int kSmallest = 160;
/// Okabe and Ito's colours, told apart by every kind of eye.
constexpr std::array kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : clean_text(text)) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string number(double value, const char* format) {
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

struct Axis {
  double low = 0, high = 1;
  bool is_log = false;
  int first_px = 0, last_px = 1;

  double at(double value) const {
    const double v = is_log ? std::log10(value) : value;
    return first_px + (v - low) / (high - low) * (last_px - first_px);
  }
};

/// Ticks at 1, 2 or 5 times a power of ten (a plain power on a log axis), about `wanted` of them.
std::vector<double> ticks_of(const Axis& axis, int wanted) {
  double step = (axis.high - axis.low) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  const double lead = step / power;
  step = power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
  if (axis.is_log && axis.high - axis.low >= 2) step = std::max(1.0, std::round(step));
  std::vector<double> ticks;
  // Counted and not added up: where values differ in their last bits only, adding a step would change nothing, for ever.
  const double first = std::ceil(axis.low / step - 1e-9);
  for (int i = 0; i <= wanted + 1; ++i) {
    const double tick = (first + i) * step;
    if (!(tick <= axis.high + 1e-9 * step)) break;
    ticks.push_back(std::abs(tick) < 1e-9 * step ? 0.0 : tick);
  }
  return ticks;
}

class Range {
 public:
  void add(double value) {
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  void into(Axis& axis, double margin) const {
    axis.low = low_ <= high_ ? low_ : 0;
    axis.high = low_ <= high_ ? high_ : 1;
    const double span = axis.high - axis.low;
    // A constant still needs an axis of some length.
    const double grow = span > 0 ? span * margin : std::max(1e-3, std::abs(axis.low) * 0.1);
    if (margin > 0 || span <= 0) {
      axis.low -= grow;
      axis.high += grow;
    }
  }

 private:
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

bool is_shown(const LinePlot& plot, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!plot.log_y || y > 0);
}

/// The path of one series: "M x y L x y ...", a new M behind each gap.
std::string path_of(const LinePlot& plot, const Series& series, const Axis& x_axis, const Axis& y_axis) {
  std::string out;
  bool is_open = false;
  const auto point = [&](double x, double y) {
    out += (is_open ? "L" : "M") + number(x, "%.1f") + " " + number(y, "%.1f");
    is_open = true;
  };
  for (size_t i = 0; i < series.x.size();) {
    if (!is_shown(plot, series.x[i], series.y[i])) {
      is_open = false;
      ++i;
      continue;
    }
    const double x = x_axis.at(series.x[i]);
    const long column = std::lround(x);
    size_t low = i, high = i, last = i;
    for (; last < series.x.size() && is_shown(plot, series.x[last], series.y[last]) &&
           std::lround(x_axis.at(series.x[last])) == column;
         ++last) {
      if (series.y[last] < series.y[low]) low = last;
      if (series.y[last] > series.y[high]) high = last;
    }
    if (last - i <= 2) {
      for (size_t k = i; k < last; ++k) point(x_axis.at(series.x[k]), y_axis.at(series.y[k]));
    } else {
      for (const size_t k : {std::min(low, high), std::max(low, high)})
        point(x_axis.at(series.x[k]), y_axis.at(series.y[k]));
    }
    i = last;
  }
  return out;
}

std::string text_at(double x, double y, const std::string& anchor, const std::string& text,
                    const std::string& more = {}) {
  return "<text x=\"" + number(x, "%.1f") + "\" y=\"" + number(y, "%.1f") + "\" text-anchor=\"" + anchor + "\"" + more +
         ">" + escaped(text) + "</text>\n";
}

std::string line(double x1, double y1, double x2, double y2, const std::string& colour) {
  return "<line x1=\"" + number(x1, "%.1f") + "\" y1=\"" + number(y1, "%.1f") + "\" x2=\"" + number(x2, "%.1f") +
         "\" y2=\"" + number(y2, "%.1f") + "\" stroke=\"" + colour + "\"/>\n";
}

}  // namespace

std::string line_plot_svg(const LinePlot& plot) {
  if (plot.width < kSmallest || plot.height < kSmallest)
    throw UsageError(concat("plot: ", plot.width, "x", plot.height, " is too small"));
  Range xs, ys;
  for (const Series& series : plot.series) {
    if (series.x.size() != series.y.size()) {
      throw UsageError(
          concat("plot: series '", series.label, "' has ", series.x.size(), " x and ", series.y.size(), " y"));
    }
    for (size_t i = 0; i < series.x.size(); ++i) {
      if (!is_shown(plot, series.x[i], series.y[i])) continue;
      xs.add(series.x[i]);
      ys.add(plot.log_y ? std::log10(series.y[i]) : series.y[i]);
    }
  }
  Axis x_axis{0, 1, false, kLeft, plot.width - kRight}, y_axis{0, 1, plot.log_y, plot.height - kBottom, kTop};
  xs.into(x_axis, 0.0);
  ys.into(y_axis, 0.05);

  const std::string width = std::to_string(plot.width), height = std::to_string(plot.height);
  std::string out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" + height + "\" viewBox=\"0 0 " +
      width + " " + height +
      "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  out += text_at(plot.width / 2.0, 22, "middle", plot.title, " font-size=\"15\"");
  for (const double tick : ticks_of(x_axis, 7)) {
    const double x = x_axis.at(tick);
    out += line(x, kTop, x, plot.height - kBottom, "#e5e5e5") +
           text_at(x, plot.height - kBottom + 16, "middle", number(tick, "%.6g"));
  }
  for (const double tick : ticks_of(y_axis, 6)) {
    const double value = plot.log_y ? std::pow(10.0, tick) : tick, y = y_axis.at(value);
    out += line(kLeft, y, plot.width - kRight, y, "#e5e5e5") + text_at(kLeft - 6, y + 4, "end", number(value, "%.4g"));
  }
  out += line(kLeft, kTop, kLeft, plot.height - kBottom, "#333333");
  out += line(kLeft, plot.height - kBottom, plot.width - kRight, plot.height - kBottom, "#333333");
  out += text_at((kLeft + plot.width - kRight) / 2.0, plot.height - 10, "middle", plot.x_label);
  const std::string middle = number((kTop + plot.height - kBottom) / 2.0, "%.1f");
  out += text_at(14, (kTop + plot.height - kBottom) / 2.0, "middle", plot.y_label,
                 " transform=\"rotate(-90 14 " + middle + ")\"");
  for (size_t i = 0; i < plot.series.size(); ++i) {
    const std::string colour = kColours[i % kColours.size()];
    out += "<path fill=\"none\" stroke=\"" + colour + "\" stroke-width=\"1.5\" stroke-linejoin=\"round\" d=\"" +
           path_of(plot, plot.series[i], x_axis, y_axis) + "\"/>\n";
    const double y = kTop + 14 + kLegendRow * static_cast<double>(i), x = plot.width - kRight - 10;
    if (plot.series[i].label.empty()) continue;
    out += "<rect x=\"" + number(x - 14, "%.1f") + "\" y=\"" + number(y - 6, "%.1f") +
           "\" width=\"14\" height=\"3\" fill=\"" + colour + "\"/>\n";
    out += text_at(x - 20, y, "end", plot.series[i].label);
  }
  return out + "</svg>\n";
}

void save_line_plot(const std::filesystem::path& path, const LinePlot& plot) { write_file(path, line_plot_svg(plot)); }

}  // namespace kinora::media
