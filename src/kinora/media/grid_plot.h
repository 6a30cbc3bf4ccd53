// Decisions over time as SVG: a grid with a row for each place and a column for each step, and curves above it over the
// same steps. For what a cache reused, and the change that it measured.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kinora/media/svg_page.h"

namespace kinora::media {

/// One place. A column that is absent was never decided there.
struct GridRow {
  std::string label;
  std::map<int64_t, double> reused;  ///< by column: the share of its decisions that reused, 0 .. 1
};

struct GridGroup {
  std::string label;  ///< stands above the rows
  std::vector<GridRow> rows;
};

struct GridPlot {
  std::string title, x_label;
  std::vector<GridGroup> groups;
  std::map<int64_t, std::string> notes;  ///< a second word under a column, such as its timestep
  std::string notes_label;
  std::string y_label;         ///< of the curves
  std::vector<Series> curves;  ///< x counts columns; none: the grid alone
  int width = 800;             ///< pixels; the height follows from the rows
};

/// The SVG document. Rows become lower the more there are, down to 3 pixels, and then only some carry their label; cells of
/// one row that are alike are drawn as one. Throws UsageError for a grid without a cell or of more than 4096 rows, for a share outside 0 .. 1, and
/// where x and y of a curve differ in length.
std::string grid_plot_svg(const GridPlot& plot);

/// Pixels that a row of the grid is high.
double row_height(size_t rows);

}  // namespace kinora::media
