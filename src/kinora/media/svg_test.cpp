#include "kinora/media/svg.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/media/test_clips.h"

namespace kinora::media {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(LinePlot, HasATitleAxesAndOnePathASeries) {
  const std::string svg = line_plot_svg({.title = "loss <b> & co",
                                         .x_label = "step",
                                         .y_label = "loss",
                                         .series = {{"train", {0, 1, 2}, {3, 2, 1}}, {"held out", {0, 2}, {4, 2}}}});
  EXPECT_EQ(count(svg, "<path"), 2u);
  EXPECT_NE(svg.find("loss &lt;b&gt; &amp; co"), std::string::npos);
  EXPECT_NE(svg.find(">held out<"), std::string::npos);
  EXPECT_GT(count(svg, "<line"), 8u);
  EXPECT_TRUE(svg.starts_with("<svg"));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
}

TEST(LinePlot, PointsThatAreNotFiniteBreakTheLine) {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const std::string svg = line_plot_svg({.series = {{"", {0, 1, 2, 3, 4}, {1, nan, 2, inf, 3}}}});
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
  EXPECT_EQ(count(svg, "M"), 3u);
  EXPECT_EQ(count(line_plot_svg({.series = {{"", {0, 1, 2}, {1, 0, 2}}}, .log_y = true}), "M"), 2u);
}

TEST(LinePlot, LongSeriesAreThinnedButKeepTheirPeaks) {
  Series series;
  for (int i = 0; i < 200000; ++i) {
    series.x.push_back(i);
    series.y.push_back(i == 77777 ? 100.0 : std::sin(i * 0.01));
  }
  const std::string svg = line_plot_svg({.series = {series}});
  EXPECT_LT(svg.size(), 60000u);
  EXPECT_LT(count(svg, "L"), 1500u);
  const std::string flat = line_plot_svg({.series = {{"", {0, 1}, {100, -1}}}});  // the same range of y
  const std::string top = flat.substr(flat.find("M") + 6, 4);
  EXPECT_NE(svg.find(" " + top), std::string::npos);
}

TEST(LinePlot, NothingToDrawIsStillAPlot) {
  EXPECT_NE(line_plot_svg({}).find("</svg>"), std::string::npos);
  EXPECT_NE(line_plot_svg({.series = {{"one", {5}, {5}}}}).find("M"), std::string::npos);
  EXPECT_EQ(line_plot_svg({.series = {{"none", {}, {}}}, .log_y = true}).find("nan"), std::string::npos);
}

TEST(LinePlot, ValuesThatDifferInTheirLastBitEnd) {
  const std::string svg = line_plot_svg({.series = {{"", {1e16, 1e16 + 2}, {0.1, std::nextafter(0.1, 1.0)}}}});
  EXPECT_LT(count(svg, "<line"), 30u);
}

TEST(LinePlot, MistakesAreUsageErrors) {
  EXPECT_THROW(line_plot_svg({.series = {{"a", {1, 2}, {1}}}}), UsageError);
  EXPECT_THROW(line_plot_svg({.width = 10}), UsageError);
}

TEST(LinePlot, IsSavedAsAFile) {
  const TempFolder folder;
  save_line_plot(folder / "loss.svg", {.title = "t"});
  EXPECT_EQ(read_file(folder / "loss.svg", 1 << 20), line_plot_svg({.title = "t"}));
}

}  // namespace
}  // namespace kinora::media
