#include "kinora/media/grid_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kinora/base/error.h"

namespace kinora::media {
namespace {

constexpr double kTop = 44, kRight = 16, kCurves = 150, kGap = 40;
constexpr double kHeading = 20, kBelowGroup = 6, kBelow = 56, kLegend = 24;
constexpr double kMostRow = 14, kLeastRow = 3, kGridHeight = 640;
constexpr double kLabelEvery = 12;  // pixels: closer labels would touch
constexpr size_t kLabelLetters = 30;
constexpr double kLetter = 6.2, kLargeLetter = 7.2, kLeastLeft = 72;
constexpr double kAway = 20;     // pixels: the first column's number and note reach beyond its cell
constexpr double kSeparate = 5;  // pixels: narrower or lower cells leave no line between them
constexpr size_t kMostRows = 4096;
constexpr std::array kStates = {"computed", "partly", "reused"};

enum State { computed, partly, reused };

State state_of(double share) { return share <= 0 ? computed : share >= 1 ? State::reused : partly; }

std::string shortened(const std::string& label) {
  if (label.size() <= kLabelLetters) return label;
  const size_t half = (kLabelLetters - 2) / 2;
  return label.substr(0, half) + ".." + label.substr(label.size() - half);
}

struct Columns {
  int64_t first = std::numeric_limits<int64_t>::max(), last = std::numeric_limits<int64_t>::min();
};

Columns columns_of(const GridPlot& plot) {
  Columns out;
  for (const GridGroup& group : plot.groups) {
    for (const GridRow& row : group.rows) {
      for (const auto& [column, share] : row.reused) {
        if (!(share >= 0 && share <= 1)) throw UsageError(concat("plot: a share of ", share, " is not in 0 .. 1"));
      }
      if (row.reused.empty()) continue;
      out.first = std::min(out.first, row.reused.begin()->first);
      out.last = std::max(out.last, row.reused.rbegin()->first);
    }
  }
  if (out.first > out.last) throw UsageError("plot: the grid has no cell");
  for (const Series& curve : plot.curves) {
    if (curve.x.size() != curve.y.size())
      throw UsageError(concat("plot: curve '", curve.label, "' has ", curve.x.size(), " x and ", curve.y.size(), " y"));
  }
  return out;
}

/// The cells of a row, runs of one state as one rectangle, appended to the path of the state.
void add_cells(const GridRow& row, const svg::Axis& x, double y, double height, std::array<std::string, 3>& paths) {
  const double width = x.at(1) - x.at(0);
  const double gap_x = width >= kSeparate ? 1 : 0, gap_y = height >= kSeparate ? 1 : 0;
  for (auto cell = row.reused.begin(); cell != row.reused.end();) {
    const State state = state_of(cell->second);
    const int64_t first = cell->first;
    int64_t next = first;
    // With lines between cells each is a rectangle; else a run is one.
    do {
      ++next, ++cell;
    } while (gap_x == 0 && cell != row.reused.end() && cell->first == next && state_of(cell->second) == state);
    const double left = x.at(static_cast<double>(first)), right = x.at(static_cast<double>(next));
    const std::string w = svg::number(right - left - gap_x, "%.2f"), h = svg::number(height - gap_y, "%.2f");
    paths[state] += "M" + svg::number(left, "%.2f") + " " + svg::number(y, "%.2f") + "h" + w + "v" + h + "h-" + w + "z";
  }
}

struct Drawn {
  std::string body;
  double end_px = 0;
  std::array<bool, 3> has{};
};

Drawn draw_groups(const GridPlot& plot, const svg::Axis& x, double y, double height) {
  Drawn out;
  std::array<std::string, 3> paths;
  for (const GridGroup& group : plot.groups) {
    out.body += svg::text(x.first_px, y + kHeading - 6, "start", group.label, " font-weight=\"bold\"");
    y += kHeading;
    double labelled = -kLabelEvery;
    for (const GridRow& row : group.rows) {
      add_cells(row, x, y, height, paths);
      if (y - labelled >= kLabelEvery) {
        out.body += svg::text(x.first_px - 6, y + height / 2 + 4, "end", shortened(row.label), " font-size=\"11\"");
        labelled = y;
      }
      y += height;
    }
    y += kBelowGroup;
  }
  for (size_t s = 0; s < paths.size(); ++s) {
    out.has[s] = !paths[s].empty();
    if (out.has[s]) out.body += std::string("<path class=\"") + kStates[s] + "\" d=\"" + paths[s] + "\"/>\n";
  }
  out.end_px = y - kBelowGroup;
  return out;
}

/// Numbers of columns, and under them their notes.
std::string column_labels(const GridPlot& plot, const svg::Axis& x, double y) {
  std::string out = svg::line(x.first_px, y, x.last_px, y, "axis");
  for (const double tick : svg::ticks_of(x, 10)) {
    const auto column = static_cast<int64_t>(std::lround(tick));
    if (std::abs(tick - static_cast<double>(column)) > 1e-6 || tick + 0.5 > x.high) continue;
    const double middle = x.at(tick + 0.5);
    out += svg::line(middle, y, middle, y + 4, "axis") + svg::text(middle, y + 16, "middle", std::to_string(column));
    if (const auto note = plot.notes.find(column); note != plot.notes.end())
      out += svg::text(middle, y + 30, "middle", note->second, " font-size=\"11\" opacity=\"0.75\"");
  }
  out += svg::text(x.first_px - kAway, y + 16, "end", plot.x_label);
  if (!plot.notes.empty())
    out += svg::text(x.first_px - kAway, y + 30, "end", plot.notes_label, " font-size=\"11\" opacity=\"0.75\"");
  return out;
}

std::string states_legend(const std::array<bool, 3>& has, double left, double y) {
  constexpr std::array kWords = {"computed", "reused in a part of the clips", "reused"};
  std::string out;
  for (size_t s = 0; s < has.size(); ++s) {
    if (!has[s]) continue;
    out += svg::rect(left, y - 9, 12, 10, kStates[s]) + svg::text(left + 18, y, "start", kWords[s]);
    left += 18 + kLetter * static_cast<double>(std::string(kWords[s]).size()) + 24;
  }
  return out;
}

double left_margin(const GridPlot& plot) {
  const size_t words = std::max(plot.x_label.size(), plot.notes_label.size());
  size_t labels = 0;
  for (const GridGroup& group : plot.groups) {
    for (const GridRow& row : group.rows) labels = std::max(labels, shortened(row.label).size());
  }
  return std::max(
      {kLeastLeft, kLetter * static_cast<double>(labels) + 14, kLargeLetter * static_cast<double>(words) + kAway});
}

}  // namespace

double row_height(size_t rows) {
  const double fair = kGridHeight / static_cast<double>(std::max<size_t>(rows, 1));
  return std::clamp(std::floor(fair), kLeastRow, kMostRow);
}

std::string grid_plot_svg(const GridPlot& plot) {
  const Columns columns = columns_of(plot);
  size_t rows = 0;
  for (const GridGroup& group : plot.groups) rows += group.rows.size();
  if (rows > kMostRows) throw UsageError(concat("plot: ", rows, " rows are more than ", kMostRows));
  // Column c covers c .. c + 1, and a curve's point lies in its middle.
  const svg::Axis x{static_cast<double>(columns.first), static_cast<double>(columns.last + 1), false, left_margin(plot),
                    plot.width - kRight};
  std::string body;
  double y = kTop;
  if (!plot.curves.empty()) {
    svg::Axis up = svg::y_axis_of(plot.curves, false, 0.0);
    up.low = std::min(up.low, 0.0), up.high += 0.05 * (up.high - up.low);
    up.first_px = kTop + kCurves, up.last_px = kTop;
    body += svg::y_ticks(x, up, 4, plot.y_label) + svg::line(x.first_px, up.first_px, x.last_px, up.first_px, "axis");
    for (size_t i = 0; i < plot.curves.size(); ++i) {
      Series curve = plot.curves[i];
      for (double& at : curve.x) at += 0.5;
      body += svg::curve(curve, x, up, i);
    }
    body += svg::legend(plot.curves, x.last_px - 10, kTop + 14);
    y = kTop + kCurves + kGap - kHeading;
  }
  const Drawn grid = draw_groups(plot, x, y, row_height(rows));
  body += grid.body + column_labels(plot, x, grid.end_px + 3);
  body += states_legend(grid.has, x.first_px, grid.end_px + kBelow);
  return svg::page(plot.width, static_cast<int>(std::lround(grid.end_px + kBelow + kLegend)), plot.title, body);
}

}  // namespace kinora::media
