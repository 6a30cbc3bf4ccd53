#include "kinora/models/common/positions.h"

#include <cmath>

namespace kinora::models {

// Positions are float32 and angles float64 in the reference; so they are here, since one table serves a whole run.
Tensor sincos_1d(const Tensor& positions, int64_t width) {
  const Tensor frequency = at::pow(10000.0, at::arange(width / 2, at::kDouble) * (-2.0 / static_cast<double>(width)));
  const Tensor angles = positions.to(at::kDouble).unsqueeze(1) * frequency;
  return at::cat({angles.sin(), angles.cos()}, 1).to(at::kFloat);
}

Tensor sincos_2d(const Tensor& rows, const Tensor& columns, int64_t width) {
  const int64_t h = rows.size(0), w = columns.size(0), half = width / 2;
  const Tensor by_column = sincos_1d(columns, half).unsqueeze(0).expand({h, w, half});
  const Tensor by_row = sincos_1d(rows, half).unsqueeze(1).expand({h, w, half});
  return at::cat({by_column, by_row}, 2).flatten(0, 1);
}

Tensor sincos_2d_scaled(int64_t h, int64_t w, int64_t width, double scale, double base) {
  const auto positions = [&](int64_t n) { return at::arange(n, at::kFloat) / (static_cast<double>(n) / base) / scale; };
  return sincos_2d(positions(h), positions(w), width);
}

Tensor Sincos3d::table() const {
  const int64_t t = frames.size(0), s = patches.size(0);
  return at::cat(
      {frames.unsqueeze(1).expand({t, s, frames.size(1)}), patches.unsqueeze(0).expand({t, s, patches.size(1)})}, 2);
}

Sincos3d sincos_3d(int64_t frames, int64_t h, int64_t w, int64_t width, double spatial_scale, double temporal_scale) {
  return {.frames = sincos_1d(at::arange(frames, at::kFloat) / temporal_scale, width / 4),
          .patches = sincos_2d(at::arange(h, at::kFloat) / spatial_scale, at::arange(w, at::kFloat) / spatial_scale,
                               width / 4 * 3)};
}

RotaryTable rotary_3d(const Tensor& frames, const Tensor& rows, const Tensor& columns, int64_t head_dim) {
  const int64_t t = frames.size(0), h = rows.size(0), w = columns.size(0);
  const auto angles = [&](const Tensor& positions, int64_t width, at::IntArrayRef where) {
    const Tensor frequency =
        at::pow(10000.0, at::arange(0, width, 2, at::kFloat) / static_cast<double>(width)).reciprocal();
    Tensor angle = positions.to(at::kFloat).unsqueeze(1) * frequency;
    std::vector<int64_t> shape = where.vec();
    shape.push_back(width / 2);
    return angle.view(shape).expand({t, h, w, width / 2});
  };
  const int64_t along_time = head_dim / 4, along_space = head_dim / 8 * 3;
  const Tensor all = at::cat({angles(frames, along_time, {t, 1, 1}), angles(rows, along_space, {1, h, 1}),
                              angles(columns, along_space, {1, 1, w})},
                             3)
                         .flatten(1, 2);
  return {all.cos(), all.sin()};
}

RotaryTable local_rows(const Layout& layout, const RotaryTable& whole) {
  const auto local = [&](const Tensor& t) { return layout.local(layout.local(t, Axis::rows, 1), Axis::frames, 0); };
  return {local(whole.cos), local(whole.sin)};
}

Tensor grid_positions(double start, double stop, int64_t n) {
  return at::linspace(start, stop * static_cast<double>(n - 1) / static_cast<double>(n), n, at::kFloat);
}

}  // namespace kinora::models
