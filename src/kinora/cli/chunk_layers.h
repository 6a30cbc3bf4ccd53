// What the shapes of `kinora bench chunk` are made of: plain layers with random weights, which a capture takes for
// constants. B batch, N rows, C channels.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <optional>

#include "kinora/graph/capture.h"
#include "kinora/ops/conv.h"
#include "kinora/ops/norm.h"
#include "kinora/ops/residual.h"

namespace kinora::cli {

using at::Tensor;

inline Tensor noted(const Tensor& weight) {
  graph::note_constant(weight);
  return weight;
}

struct Linear {
  Linear(int64_t in, int64_t out)
      : weight(at::randn({out, in}) / std::sqrt(static_cast<double>(in))), bias(at::randn({out}) * 0.1) {}
  Tensor operator()(const Tensor& x) const { return at::linear(x, noted(weight), noted(bias)); }
  Tensor weight, bias;
};

struct Conv {
  Conv(int64_t in, int64_t out, int64_t k, int64_t step = 1)
      : weight(at::randn({out, in, k, k}) / std::sqrt(static_cast<double>(in * k * k))),
        bias(at::randn({out}) * 0.1),
        stride(step),
        padding(k / 2) {}
  Tensor operator()(const Tensor& x) const {
    return ops::conv(x, noted(weight), noted(bias), {stride, stride}, {padding, padding});
  }
  Tensor weight, bias;
  int64_t stride, padding;
};

/// Products and softmax, as the reference's models attend. q, k, v [B, N, C] -> the same.
inline Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, bool is_causal) {
  const int64_t batch = q.size(0), n = q.size(1), d = q.size(2) / heads;
  const auto split = [&](const Tensor& t) { return t.view({batch, n, heads, d}).transpose(1, 2); };
  Tensor scores = at::matmul(split(q), split(k).transpose(-2, -1)) / std::sqrt(static_cast<double>(d));
  if (is_causal) {
    const Tensor place = at::arange(n, q.options().dtype(at::kLong));
    scores = scores.masked_fill(place > place.unsqueeze(1), -INFINITY);
  }
  scores = at::softmax(scores, -1);
  return at::matmul(scores, split(v)).transpose(1, 2).reshape({batch, n, heads * d});
}

struct TransformerBlock {
  TransformerBlock(int64_t width, int64_t num_heads, bool causal)
      : heads(num_heads),
        is_causal(causal),
        q(width, width),
        k(width, width),
        v(width, width),
        out(width, width),
        up(width, 4 * width),
        down(4 * width, width) {}
  Tensor operator()(Tensor x) const {
    const int64_t width = x.size(2);
    Tensor h = at::layer_norm(x, {width});
    x = x + out(attend(q(h), k(h), v(h), heads, is_causal));
    h = at::layer_norm(x, {width});
    return x + down(at::gelu(up(h)));
  }
  int64_t heads;
  bool is_causal;
  Linear q, k, v, out, up, down;
};

/// A group norm with silu behind it or not.
struct GroupNorm {
  explicit GroupNorm(int64_t channels, bool with_silu = true)
      : gain(at::ones({channels})), bias(at::zeros({channels})), has_silu(with_silu) {}
  Tensor operator()(const Tensor& x) const {
    if (has_silu) return ops::group_norm(x, 32, noted(gain), noted(bias), 1e-5, ops::Activation::silu);
    return ops::group_norm(x, 32, noted(gain), noted(bias), 1e-5);
  }
  Tensor gain, bias;
  bool has_silu;
};

/// Two convolutions behind norms, and a convolution of one pixel beside them where `in` is not `out` or it is asked for.
/// time: [1, out] for each channel, added between them; undefined: none.
struct Resnet {
  Resnet(int64_t in, int64_t out, bool with_shortcut = true, const Tensor& time_shift = {})
      : before(in), between(out), first(in, out, 3), second(out, out, 3), time(time_shift) {
    if (with_shortcut || in != out) shortcut.emplace(in, out, 1);
  }
  Tensor operator()(const Tensor& x) const {
    Tensor h = first(before(x));
    if (time.defined()) h = h + noted(time).unsqueeze(-1).unsqueeze(-1);
    h = second(between(h));
    return ops::add_residual(shortcut ? (*shortcut)(x) : x, h);
  }
  GroupNorm before, between;
  Conv first, second;
  std::optional<Conv> shortcut;
  Tensor time;
};

/// Every pixel attends to all, behind a norm and beside a shortcut. x [B, C, H, W].
struct PictureAttention {
  PictureAttention(int64_t channels, int64_t num_heads)
      : heads(num_heads),
        norm(channels, false),
        q(channels, channels),
        k(channels, channels),
        v(channels, channels),
        out(channels, channels) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor rows = norm(x).flatten(2).transpose(1, 2);
    return x + out(attend(q(rows), k(rows), v(rows), heads, false)).transpose(1, 2).reshape(x.sizes());
  }
  int64_t heads;
  GroupNorm norm;
  Linear q, k, v, out;
};

}  // namespace kinora::cli
