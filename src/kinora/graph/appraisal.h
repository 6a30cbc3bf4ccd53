// What a region costs: bytes while it runs, as a function of the size of a piece, and seconds.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "kinora/graph/cost.h"

namespace kinora::graph {

/// Bytes as a function of the rows of a piece.
struct Line {
  double base = 0, per_row = 0;
  double at(int64_t rows) const { return base + per_row * static_cast<double>(rows); }
  bool operator==(const Line&) const = default;
};

/// Of a region wherever it stands: what is alive around it comes on top.
struct Appraisal {
  int64_t length = 0;            ///< rows in all
  int64_t align = 1;             ///< pieces are multiples of it
  int64_t tail = 1;              ///< rows of the last piece at the least, where it is a smaller one
  int64_t fixed_bytes = 0;       ///< whole results and what runs before the loop, less what is written over
  int64_t before_bytes = 0;      ///< while that runs
  std::vector<Line> loop_bytes;  ///< of one piece while each of its steps runs, as far as they may be the most
  double fixed_seconds = 0, call_seconds = 0, row_seconds = 0;
  bool is_exact = true;  ///< no sums in another order

  double bytes(int64_t chunk) const;
  double seconds(int64_t chunk) const;
  /// The largest piece within `bytes`, 0 where none is.
  int64_t chunk_within(double bytes) const;
  int64_t smallest_chunk() const;
  bool operator==(const Appraisal&) const = default;

 private:
  int64_t with_tail(int64_t chunk) const;
};

/// Pairs (result, value that it may be written over): equal in shape, dtype and strides, last read in the region, and
/// read only at the rows that are being written.
std::vector<std::pair<int, int>> donations(const Graph& graph, const Region& region, const Course& course);

/// Bytes that a piece holds while each of its steps runs, whole results not counted.
std::vector<int64_t> loop_bytes(const Graph& graph, const Region& region, const Course& course);

/// nullopt: not a region. Appraises dim and kind; `chunk` of the region is of no interest.
std::optional<Appraisal> appraise(Router& router, const Region& region, const Machine& machine, int64_t align_rows);

}  // namespace kinora::graph
