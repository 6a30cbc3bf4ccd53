#include "kinora/models/open_sora/embeddings.h"

#include <cmath>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/ops/patchify.h"

namespace kinora::models::open_sora {

PatchEmbed::PatchEmbed(const Scope& scope, const std::array<int64_t, 3>& patch, int64_t channels, int64_t width)
    : weight_((scope / "proj")
                  .param("weight", {width, channels, patch[0], patch[1], patch[2]}, {.init = init::kaiming_uniform})),
      bias_((scope / "proj").param("bias", {width})) {}

Tensor PatchEmbed::operator()(const Run& run, const Tensor& x) const {
  return ops::patchify(x, run.weights->get(weight_), run.weights->get(bias_));
}

Tensor scalar_frequencies(const Tensor& t, int64_t width) {
  const int64_t half = width / 2;
  const auto options = t.options().dtype(at::kFloat);
  const Tensor frequencies = at::exp(at::arange(half, options) * -std::log(10000.0) / half);
  const Tensor angles = t.to(at::kFloat).unsqueeze(1) * frequencies;
  const Tensor waves = at::cat({at::cos(angles), at::sin(angles)}, 1);
  return width % 2 == 0 ? waves : at::constant_pad_nd(waves, {0, 1});
}

ScalarEmbedder::ScalarEmbedder(const Scope& scope, int64_t width, int64_t frequencies, Init first, Init second)
    : frequencies_(frequencies),
      first_(scope / "mlp" / "0", frequencies, width, {.init = std::move(first)}),
      second_(scope / "mlp" / "2", width, width, {.init = std::move(second)}) {}

Tensor ScalarEmbedder::operator()(const Run& run, const Tensor& t, at::ScalarType dtype) const {
  const Tensor waves = scalar_frequencies(t, frequencies_).to(dtype);
  return second_(run, ops::activate(first_(run, waves), ops::Activation::silu));
}

PackedCaption pack_caption(const Tensor& caption, const Tensor& mask) {
  if (!(caption.dim() == 3 || (caption.dim() == 4 && caption.size(1) == 1))) {
    throw UsageError(concat("caption: a tensor ", caption.sizes()), "it takes [batch, 1, tokens, channels]");
  }
  const int64_t batch = caption.size(0), length = caption.size(-2);
  const Tensor rows = caption.reshape({batch * length, caption.size(-1)});
  if (!mask.defined()) return {rows, std::vector<int64_t>(batch, length)};
  if (mask.dim() != 2 || mask.size(1) != length || mask.size(0) < 1 || batch % mask.size(0) != 0) {
    throw UsageError(concat("caption_mask: ", mask.sizes(), " for captions ", caption.sizes()),
                     "it takes one row per caption, or a row for every half of the batch");
  }
  const Tensor keep = mask.to(at::kCPU).ne(0).repeat({batch / mask.size(0), 1});
  const Tensor counts = keep.sum(1);
  const auto* begin = counts.const_data_ptr<int64_t>();
  std::vector<int64_t> lengths(begin, begin + batch);
  for (const int64_t n : lengths) {
    if (n < 1) throw UsageError("caption_mask: a caption keeps no token", "every caption needs one at least");
  }
  const Tensor kept = keep.reshape(-1).nonzero().squeeze(1).to(caption.device());
  return {kept.size(0) == rows.size(0) ? rows : rows.index_select(0, kept), std::move(lengths)};
}

CaptionEmbedder::CaptionEmbedder(const Scope& scope, int64_t channels, int64_t width, int64_t tokens)
    : null_(scope.param("y_embedding", {tokens, channels},
                        {.init = init::normal(1 / std::sqrt(static_cast<double>(channels))), .trainable = false})),
      projection_(scope / "y_proj" / "fc1", scope / "y_proj" / "fc2", channels, width, width,
                  ops::Activation::gelu_tanh) {}

Tensor CaptionEmbedder::operator()(const Run& run, const Tensor& y) const { return projection_(run, y); }

Tensor position_table(int64_t h, int64_t w, int64_t width, double scale, std::optional<double> base,
                      const at::TensorOptions& options) {
  const int64_t half = width / 2;
  const auto dtype = c10::typeMetaToScalarType(options.dtype());
  const auto grid = options.dtype(dtype == at::kDouble ? at::kDouble : at::kFloat), narrow = options.dtype(at::kFloat);
  const Tensor frequencies = at::pow(10000.0, at::arange(0, half, 2, narrow) / half).reciprocal().to(dtype).to(grid);
  // Columns and rows are independent, so sines are taken of h + w positions, not of h w.
  const auto waves = [&](int64_t n) {
    Tensor positions = at::arange(n, grid) / scale;
    if (base) positions = positions * (*base / static_cast<double>(n));
    const Tensor angles = positions.unsqueeze(1) * frequencies;
    return at::cat({at::sin(angles), at::cos(angles)}, 1).to(dtype);
  };
  const Tensor columns = waves(w).unsqueeze(0).expand({h, w, half}), rows = waves(h).unsqueeze(1).expand({h, w, half});
  return at::cat({columns, rows}, 2).reshape({1, h * w, width});
}

Tensor rotary_frequencies(int64_t head_dim) {
  return at::pow(10000.0, at::arange(0, head_dim, 2, at::kFloat) / head_dim).reciprocal();
}

Rotary rotary_table(const Tensor& frequencies, int64_t rows) {
  const Tensor angles = at::arange(rows, frequencies.options()).unsqueeze(1) * frequencies;
  return {at::cos(angles), at::sin(angles)};
}

}  // namespace kinora::models::open_sora
