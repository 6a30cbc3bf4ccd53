#include "kinora/media/grid_plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "kinora/base/error.h"

namespace kinora::media {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

/// The path of a class, or nothing.
std::string path_of(const std::string& svg, const std::string& cls) {
  const std::string begin = "<path class=\"" + cls + "\" d=\"";
  const size_t at = svg.find(begin);
  return at == std::string::npos ? ""
                                 : svg.substr(at + begin.size(), svg.find('"', at + begin.size()) - at - begin.size());
}

int height_of(const std::string& svg) {
  const size_t at = svg.find("height=\"") + 8;
  return std::stoi(svg.substr(at));
}

GridPlot plot_of(size_t rows, int64_t columns) {
  GridPlot plot{.title = "t", .x_label = "call"};
  GridGroup& group = plot.groups.emplace_back();
  group.label = "spatial";
  for (size_t r = 0; r < rows; ++r) {
    GridRow& row = group.rows.emplace_back();
    row.label = "blocks." + std::to_string(r);
    for (int64_t c = 0; c < columns; ++c) row.reused[c] = c % 2 == 1;
  }
  return plot;
}

TEST(GridPlot, DrawsACellForEachDecisionInItsState) {
  GridPlot plot = plot_of(2, 10);
  const std::string svg = grid_plot_svg(plot);
  EXPECT_EQ(count(path_of(svg, "computed"), "M"), 10u);
  EXPECT_EQ(count(path_of(svg, "reused"), "M"), 10u);
  EXPECT_EQ(path_of(svg, "partly"), "");
  EXPECT_EQ(count(svg, ">reused<"), 1u);
  EXPECT_EQ(count(svg, "part of the clips"), 0u);

  plot.groups[0].rows[0].reused[3] = 0.5;
  plot.groups[0].rows[1].reused.erase(3);
  const std::string other = grid_plot_svg(plot);
  EXPECT_EQ(count(path_of(other, "reused"), "M"), 8u);
  EXPECT_EQ(count(path_of(other, "partly"), "M"), 1u);
  EXPECT_EQ(count(other, "part of the clips"), 1u);
}

TEST(GridPlot, CellsStandInTheirColumnAndRow) {
  GridPlot plot{.width = 88 + 100};  // the grid begins at 72 and is 100 pixels wide
  plot.groups = {{"g", {{"a", {{5, 1.0}, {14, 0.0}}}, {"b", {{5, 0.0}}}}}};
  const std::string svg = grid_plot_svg(plot);
  EXPECT_EQ(path_of(svg, "reused").substr(0, 7), "M72.00 ");
  EXPECT_EQ(count(path_of(svg, "computed"), "M162.00 "), 1u);
  const double first = std::stod(path_of(svg, "reused").substr(7));
  EXPECT_NE(path_of(svg, "computed").find("M72.00 " + std::to_string(static_cast<int>(first + row_height(2))) + ".00h"),
            std::string::npos)
      << svg;
}

TEST(GridPlot, ManyRowsStayOnAPageAndTheirLabelsApart) {
  EXPECT_EQ(row_height(1), 14);
  EXPECT_EQ(row_height(1000), 3);
  const std::string few = grid_plot_svg(plot_of(20, 30)), many = grid_plot_svg(plot_of(200, 30));
  EXPECT_EQ(count(few, ">blocks."), 20u);
  EXPECT_LT(height_of(many), 800);
  EXPECT_EQ(count(many, ">blocks."), 50u);  // rows of 3 pixels, a label every 12
  EXPECT_EQ(count(many, ">blocks.4<"), 1u);
  EXPECT_EQ(count(many, ">blocks.5<"), 0u);
}

TEST(GridPlot, RunsOfNarrowCellsAreOneRectangle) {
  GridPlot plot{.title = "t"};
  GridRow row{"a", {}};
  for (int64_t c = 0; c < 3000; ++c) row.reused[c] = c >= 1000 && c < 2000;
  plot.groups = {{"g", {row}}};
  const std::string svg = grid_plot_svg(plot);
  EXPECT_EQ(count(path_of(svg, "computed"), "M"), 2u);
  EXPECT_EQ(count(path_of(svg, "reused"), "M"), 1u);
}

TEST(GridPlot, CurvesStandOverTheirColumnsAndNotesUnderThem) {
  GridPlot plot = plot_of(1, 10);
  plot.notes = {{0, "1000"}, {5, "500"}};
  plot.notes_label = "timestep";
  plot.y_label = "measured change";
  plot.curves = {{"blocks", {1, 2, 3}, {0.3, std::nan(""), 0.1}}};
  const std::string svg = grid_plot_svg(plot);
  EXPECT_EQ(count(svg, "<path class=\"curve s0\""), 1u);
  EXPECT_EQ(count(path_of(svg, "curve s0"), "M"), 2u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  for (const char* words : {">1000<", ">500<", ">timestep<", ">measured change<", ">blocks<"})
    EXPECT_NE(svg.find(words), std::string::npos) << words;
  EXPECT_GT(height_of(svg), height_of(grid_plot_svg(plot_of(1, 10))) + 100);
}

TEST(GridPlot, IsLegibleOnDarkGroundAndEscapesNames) {
  GridPlot plot = plot_of(1, 2);
  plot.title = "<b> & \"c\"";
  plot.groups[0].rows[0].label = "transformer_blocks.with_a_really_long_name.attn";
  const std::string svg = grid_plot_svg(plot);
  EXPECT_NE(svg.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_NE(svg.find("&lt;b&gt; &amp; &quot;c&quot;"), std::string::npos);
  EXPECT_NE(svg.find(">transformer_bl..long_name.attn<"), std::string::npos) << svg;
}

TEST(GridPlot, MistakesAreUsageErrors) {
  EXPECT_THROW(grid_plot_svg({}), UsageError);
  EXPECT_THROW(grid_plot_svg({.groups = {{"g", {{"a", {}}}}}}), UsageError);
  EXPECT_THROW(grid_plot_svg({.groups = {{"g", {{"a", {{0, 1.5}}}}}}}), UsageError);
  EXPECT_THROW(grid_plot_svg({.groups = {{"g", {{"a", {{0, 1.0}}}}}}, .curves = {{"c", {1}, {}}}}), UsageError);
  EXPECT_THROW(grid_plot_svg(plot_of(5000, 1)), UsageError);
}

}  // namespace
}  // namespace kinora::media
