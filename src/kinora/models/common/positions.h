// Position tables that families of models share: sines and cosines that are added to patches (Vaswani et al. 2017, in
// two and three dimensions), and rotary tables in three dimensions (Su et al. 2021). T frames, h x w patches of a
// frame, C width, D width of a head. Tables are float32, computed on the CPU.
#pragma once

#include <ATen/ATen.h>

#include "kinora/nn/layout.h"

namespace kinora::models {

using at::Tensor;

/// [sin p f | cos p f], f_k = 10000^(-2 k / width): positions [N] -> [N, width].
Tensor sincos_1d(const Tensor& positions, int64_t width);

/// Columns in the first half of the width, rows in the second: rows [h], columns [w] -> [h w, width].
Tensor sincos_2d(const Tensor& rows, const Tensor& columns, int64_t width);

/// get_2d_sincos_pos_embed: positions i / (size / base) / scale. -> [h w, width].
Tensor sincos_2d_scaled(int64_t h, int64_t w, int64_t width, double scale, double base);

/// get_3d_sincos_pos_embed in its two parts, of which every patch takes one row each, time before space.
struct Sincos3d {
  Tensor frames;         ///< [T, C / 4]
  Tensor patches;        ///< [h w, 3 C / 4]
  Tensor table() const;  ///< [T, h w, C]
};
/// Positions are divided by the scales. width is a multiple of 16.
Sincos3d sincos_3d(int64_t frames, int64_t h, int64_t w, int64_t width, double spatial_scale, double temporal_scale);

/// Cosines and sines for interleaved pairs; cos and sin [T, h w, D / 2].
struct RotaryTable {
  Tensor cos, sin;
};
/// Positions of frames [T], rows [h] and columns [w]; they share the head as 1/4, 3/8 and 3/8. head_dim is a multiple
/// of 16.
RotaryTable rotary_3d(const Tensor& frames, const Tensor& rows, const Tensor& columns, int64_t head_dim);

/// A layout's part of a table of all rows.
RotaryTable local_rows(const Layout& layout, const RotaryTable& whole);

/// n positions from `start` towards `stop`, which the (n + 1)-th would take up to rounding: start + i (stop (n-1)/n -
/// start)/(n-1).
Tensor grid_positions(double start, double stop, int64_t n);

}  // namespace kinora::models
