// What the plots share: a page that is legible on light and on dark ground, axes with their ticks, curves, labels.
// Colours are classes of one style sheet, so that a page has both schemes and the viewer's setting chooses.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace kinora::media {

struct Series {
  std::string label;
  std::vector<double> x,
      y;  ///< of one length; a point that is not finite (or not positive on a log axis) breaks the line
};

namespace svg {

/// From values to pixels; on a log axis `low` and `high` are powers of ten.
struct Axis {
  double low = 0, high = 1;
  bool is_log = false;
  double first_px = 0, last_px = 1;

  double at(double value) const;
};

/// The least axis that holds every value of the series that can be shown, with a share `margin` more at both ends.
Axis y_axis_of(const std::vector<Series>& series, bool is_log, double margin);
Axis x_axis_of(const std::vector<Series>& series, bool log_y);

/// Values at 1, 2 or 5 times a power of ten (a plain power on a log axis), about `wanted` of them.
std::vector<double> ticks_of(const Axis& axis, int wanted);

std::string number(double value, const char* format);
std::string text(double x, double y, const char* anchor, const std::string& words, const std::string& more = {});
/// Written from bottom to top, its middle at (x, y).
std::string upright_text(double x, double y, const std::string& words);
std::string line(double x1, double y1, double x2, double y2, const std::string& cls);
std::string rect(double x, double y, double width, double height, const std::string& cls);

/// Grid lines, ticks, labels and the two axes of a panel whose corners are the axes' ends.
std::string y_ticks(const Axis& x, const Axis& y, int wanted, const std::string& label);
std::string x_ticks(const Axis& x, const Axis& y, int wanted, const std::string& label);

/// One series, thinned to the smallest and largest value of each pixel column, so peaks stay. `colour`: any number.
std::string curve(const Series& series, const Axis& x, const Axis& y, size_t colour);
/// A row for each series that has a label, down from (right, top).
std::string legend(const std::vector<Series>& series, double right, double top);

/// The document around `body`.
std::string page(int width, int height, const std::string& title, const std::string& body);

}  // namespace svg
}  // namespace kinora::media
