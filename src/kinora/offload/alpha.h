// The alpha benchmark (HeteGen, Zhao et al. 2024): how many rows of a linear layer's weight the CPU takes, so that it ends
// together with the device, which waits for the rest to come over the link. Measured, as lines in the number of rows.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>

namespace kinora::offload {

/// seconds = fixed + slope * rows.
struct Line {
  double fixed = 0, slope = 0;
  double at(double rows) const { return fixed + slope * rows; }
};
/// Least squares through at least two points (rows, seconds) of different rows.
Line fit_line(std::span<const std::pair<double, double>> points);

struct AlphaOptions {
  int points = 5;     ///< shares at which both sides are timed
  int runs = 5;       ///< of each; the median counts
  int64_t unit = 64;  ///< the CPU's rows are a multiple; the heads' width for queries, keys and values
};

struct Alpha {
  int64_t cpu_rows = 0;  ///< 0: all over the link; all rows: the CPU alone
  Line cpu, device;      ///< as measured: of the CPU's rows, and of the device's
  double seconds = 0;    ///< the longer side at cpu_rows, measured
};

/// Seconds that one side takes for so many rows.
using SideSeconds = std::function<double(int64_t rows)>;

/// Times both sides at evenly spaced shares, solves for equal times, rounds to the unit, and then times the result and its
/// neighbours one unit away, of which the fastest is taken. `rows` of the whole, above 0.
Alpha find_alpha(int64_t rows, const SideSeconds& cpu, const SideSeconds& device, const AlphaOptions& options = {});

}  // namespace kinora::offload
