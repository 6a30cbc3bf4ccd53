// Line plots as SVG, for training curves and benches: a file that every browser shows and that needs no library.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kinora/media/svg_page.h"

namespace kinora::media {

struct LinePlot {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_y = false;
  int width = 720, height = 400;  ///< pixels
};

/// The SVG document. Long series are thinned to the smallest and largest value of each pixel column, so peaks stay.
/// Throws UsageError when x and y of a series differ in length, or a side is below 160.
std::string line_plot_svg(const LinePlot& plot);

/// The same into a file that appears whole or not at all.
void save_line_plot(const std::filesystem::path& path, const LinePlot& plot);

}  // namespace kinora::media
