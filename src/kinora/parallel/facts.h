// What layouts have to know of a model, of a call and of the ranks.
#pragma once

#include <cstdint>
#include <string>

#include "kinora/nn/layout.h"

namespace kinora::parallel {

struct ModelFacts {
  std::string name;
  int64_t width = 0;  ///< C
  int64_t heads = 0;  ///< A
  /// Self-attentions of one call: in how many rows see each other along frames, in how many along the rows of a frame,
  /// and in how many all rows of a sample.
  int64_t along_frames = 0, along_rows = 0, along_all = 0;
  int64_t outputs = 0;              ///< numbers that the head gives for a row: what is gathered last
  bool norms_across_heads = false;  ///< queries or keys pass a norm over all heads at once
  int64_t head_dim() const { return width / heads; }
};

struct CallShape {
  int64_t batch = 1;
  Extent extent;
  int64_t text_rows = 0;  ///< that attend together with the video's
  int64_t element_bytes = 2;
};

/// A layout with what it is made of. Ranks of a sequence are neighbours; of them, those that exchange heads are.
struct Arrangement {
  std::string layout = "none";  ///< a name of layouts()
  Axis home = Axis::frames;
  int ranks = 1;        ///< over which rows are cut
  int heads_ranks = 1;  ///< ulysses+ring: of these, how many exchange heads
  int branches = 1;     ///< 2: guidance branches apart, each on `ranks` ranks
  int pieces = 1;       ///< dsp, ulysses: an exchange goes in this many, each under way while another is computed with
};

}  // namespace kinora::parallel
