#include "kinora/media/svg_page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "kinora/media/metadata.h"

namespace kinora::media::svg {
namespace {

constexpr double kLegendRow = 16;
/// Seven curves in the colours of Okabe and Ito, told apart by every kind of eye; on dark ground the dark ones are lighter.
constexpr size_t kColours = 7;
constexpr const char* kStyle =
    "<style>\n"
    ".page{fill:#ffffff}text{fill:#1f2328}.grid{stroke:#e5e5e5}.axis{stroke:#57606a}\n"
    ".curve{fill:none;stroke-width:1.5;stroke-linejoin:round}.key{stroke-width:3}\n"
    ".s0{stroke:#0072b2}.s1{stroke:#d55e00}.s2{stroke:#009e73}.s3{stroke:#cc79a7}.s4{stroke:#e69f00}"
    ".s5{stroke:#56b4e9}.s6{stroke:#000000}\n"
    ".computed{fill:#d8dee4}.reused{fill:#0072b2}.partly{fill:#8ab4d3}\n"
    "@media(prefers-color-scheme:dark){\n"
    ".page{fill:#0d1117}text{fill:#e6edf3}.grid{stroke:#2b313a}.axis{stroke:#8b949e}\n"
    ".s0{stroke:#4aa8e0}.s1{stroke:#f0833a}.s2{stroke:#2fc494}.s6{stroke:#ffffff}\n"
    ".computed{fill:#30363d}.reused{fill:#4aa8e0}.partly{fill:#2f6389}\n"
    "}\n</style>\n";

std::string escaped(const std::string& words) {
  std::string out;
  for (const char c : clean_text(words)) {
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

std::string px(double value) { return number(value, "%.1f"); }

bool is_shown(double x, double y, bool log_y) { return std::isfinite(x) && std::isfinite(y) && (!log_y || y > 0); }

/// The least range that holds values.
class Range {
 public:
  void add(double value) {
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  Axis axis(bool is_log, double margin) const {
    Axis out{.is_log = is_log};
    if (low_ <= high_) out.low = low_, out.high = high_;
    const double span = out.high - out.low;
    // A constant still needs an axis of some length.
    const double grow = span > 0 ? span * margin : std::max(1e-3, std::abs(out.low) * 0.1);
    out.low -= grow, out.high += grow;
    return out;
  }

 private:
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

std::string colour_of(size_t index) { return "s" + std::to_string(index % kColours); }

}  // namespace

double Axis::at(double value) const {
  const double v = is_log ? std::log10(value) : value;
  return first_px + (v - low) / (high - low) * (last_px - first_px);
}

Axis y_axis_of(const std::vector<Series>& series, bool is_log, double margin) {
  Range range;
  for (const Series& s : series) {
    for (size_t i = 0; i < s.x.size(); ++i)
      if (is_shown(s.x[i], s.y[i], is_log)) range.add(is_log ? std::log10(s.y[i]) : s.y[i]);
  }
  return range.axis(is_log, margin);
}

Axis x_axis_of(const std::vector<Series>& series, bool log_y) {
  Range range;
  for (const Series& s : series) {
    for (size_t i = 0; i < s.x.size(); ++i)
      if (is_shown(s.x[i], s.y[i], log_y)) range.add(s.x[i]);
  }
  return range.axis(false, 0.0);
}

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

std::string number(double value, const char* format) {
  std::array<char, 48> digits{};
  std::snprintf(digits.data(), digits.size(), format, value);
  return digits.data();
}

std::string text(double x, double y, const char* anchor, const std::string& words, const std::string& more) {
  return "<text x=\"" + px(x) + "\" y=\"" + px(y) + "\" text-anchor=\"" + anchor + "\"" + more + ">" + escaped(words) +
         "</text>\n";
}

std::string upright_text(double x, double y, const std::string& words) {
  return text(x, y, "middle", words, " transform=\"rotate(-90 " + px(x) + " " + px(y) + ")\"");
}

std::string line(double x1, double y1, double x2, double y2, const std::string& cls) {
  return "<line class=\"" + cls + "\" x1=\"" + px(x1) + "\" y1=\"" + px(y1) + "\" x2=\"" + px(x2) + "\" y2=\"" +
         px(y2) + "\"/>\n";
}

std::string rect(double x, double y, double width, double height, const std::string& cls) {
  return "<rect class=\"" + cls + "\" x=\"" + px(x) + "\" y=\"" + px(y) + "\" width=\"" + px(width) + "\" height=\"" +
         px(height) + "\"/>\n";
}

std::string y_ticks(const Axis& x, const Axis& y, int wanted, const std::string& label) {
  std::string out;
  for (const double tick : ticks_of(y, wanted)) {
    const double value = y.is_log ? std::pow(10.0, tick) : tick, at = y.at(value);
    out += line(x.first_px, at, x.last_px, at, "grid") + text(x.first_px - 6, at + 4, "end", number(value, "%.4g"));
  }
  return out + line(x.first_px, y.first_px, x.first_px, y.last_px, "axis") +
         upright_text(14, (y.first_px + y.last_px) / 2, label);
}

std::string x_ticks(const Axis& x, const Axis& y, int wanted, const std::string& label) {
  std::string out;
  for (const double tick : ticks_of(x, wanted)) {
    const double at = x.at(tick);
    out += line(at, y.first_px, at, y.last_px, "grid") + text(at, y.first_px + 16, "middle", number(tick, "%.6g"));
  }
  return out + line(x.first_px, y.first_px, x.last_px, y.first_px, "axis") +
         text((x.first_px + x.last_px) / 2, y.first_px + 38, "middle", label);
}

std::string curve(const Series& series, const Axis& x_axis, const Axis& y_axis, size_t colour) {
  const auto shown = [&](size_t i) { return is_shown(series.x[i], series.y[i], y_axis.is_log); };
  std::string path;
  bool is_open = false;
  const auto point = [&](size_t i) {
    path += (is_open ? "L" : "M") + px(x_axis.at(series.x[i])) + " " + px(y_axis.at(series.y[i]));
    is_open = true;
  };
  for (size_t i = 0; i < series.x.size();) {
    if (!shown(i)) {
      is_open = false;
      ++i;
      continue;
    }
    const long column = std::lround(x_axis.at(series.x[i]));
    size_t low = i, high = i, last = i;
    for (; last < series.x.size() && shown(last) && std::lround(x_axis.at(series.x[last])) == column; ++last) {
      if (series.y[last] < series.y[low]) low = last;
      if (series.y[last] > series.y[high]) high = last;
    }
    if (last - i <= 2) {
      for (size_t k = i; k < last; ++k) point(k);
    } else {
      point(std::min(low, high)), point(std::max(low, high));
    }
    i = last;
  }
  return "<path class=\"curve " + colour_of(colour) + "\" d=\"" + path + "\"/>\n";
}

std::string legend(const std::vector<Series>& series, double right, double top) {
  std::string out;
  for (size_t i = 0; i < series.size(); ++i) {
    const double y = top + kLegendRow * static_cast<double>(i);
    if (series[i].label.empty()) continue;
    out += line(right - 14, y - 4, right, y - 4, "key " + colour_of(i)) + text(right - 20, y, "end", series[i].label);
  }
  return out;
}

std::string page(int width, int height, const std::string& title, const std::string& body) {
  const std::string w = std::to_string(width), h = std::to_string(height);
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + w + "\" height=\"" + h + "\" viewBox=\"0 0 " + w + " " +
         h + "\" font-family=\"sans-serif\" font-size=\"12\">\n" + kStyle +
         "<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n" +
         text(width / 2.0, 22, "middle", title, " font-size=\"15\"") + body + "</svg>\n";
}

}  // namespace kinora::media::svg
