#include "kinora/cli/chunk_shapes.h"

#include <cmath>
#include <memory>

#include "kinora/base/error.h"
#include "kinora/graph/capture.h"
#include "kinora/ops/attention.h"
#include "kinora/ops/conv.h"
#include "kinora/ops/linear.h"
#include "kinora/ops/norm.h"
#include "kinora/ops/residual.h"

namespace kinora::cli {
namespace {

using at::Tensor;

Tensor noted(const Tensor& weight) {
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

/// Products and softmax, as the reference's models attend. x [B, N, C].
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, bool is_causal) {
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

ChunkShape transformer(const std::string& name, int64_t width, int64_t heads, bool is_causal, int64_t size,
                       int64_t layers) {
  auto blocks = std::make_shared<std::vector<TransformerBlock>>();
  for (int64_t i = 0; i < layers; ++i) blocks->emplace_back(width, heads, is_causal);
  return {name,
          false,
          size,
          16,
          [width](int64_t n) {
            return at::randn({1, n, width});
          },
          [blocks](const Tensor& in) {
            Tensor x = in;
            for (const TransformerBlock& block : *blocks) x = block(std::move(x));
            return x;
          }};
}

struct Resnet {
  Resnet(int64_t in, int64_t out)
      : first(in, out, 3),
        second(out, out, 3),
        shortcut(in, out, 1),
        in_gain(at::ones({in})),
        out_gain(at::ones({out})),
        in_bias(at::zeros({in})),
        out_bias(at::zeros({out})) {}
  Tensor operator()(const Tensor& x) const {
    Tensor h = first(ops::group_norm(x, 32, noted(in_gain), noted(in_bias), 1e-5, ops::Activation::silu));
    h = second(ops::group_norm(h, 32, noted(out_gain), noted(out_bias), 1e-5, ops::Activation::silu));
    return ops::add_residual(shortcut(x), h);
  }
  Conv first, second, shortcut;
  Tensor in_gain, out_gain, in_bias, out_bias;
};

/// Three levels, one residual block each, attention at the lowest: 64, 128, 256 channels.
struct UNet {
  Tensor operator()(const Tensor& in) const {
    const Tensor a = r1(first(in));
    const Tensor b = r2(down1(a));
    Tensor c = r3(down2(b));
    const Tensor rows = ops::group_norm(c, 32, noted(gain), noted(bias), 1e-5).flatten(2).transpose(1, 2);
    c = c + out(attend(q(rows), k(rows), v(rows), 32, false)).transpose(1, 2).reshape(c.sizes());
    c = up2(at::upsample_nearest2d(r4(c), {2 * c.size(2), 2 * c.size(3)}));
    Tensor d = r5(at::cat({c, b}, 1));
    d = up1(at::upsample_nearest2d(d, {2 * d.size(2), 2 * d.size(3)}));
    return last(r6(at::cat({d, a}, 1)));
  }
  Conv first{3, 64, 3}, down1{64, 128, 3, 2}, down2{128, 256, 3, 2}, up2{256, 128, 3}, up1{128, 64, 3}, last{64, 3, 3};
  Resnet r1{64, 64}, r2{128, 128}, r3{256, 256}, r4{256, 256}, r5{256, 128}, r6{128, 64};
  Linear q{256, 256}, k{256, 256}, v{256, 256}, out{256, 256};
  Tensor gain = at::ones({256}), bias = at::zeros({256});
};

/// Adaptive layer norm, separate projections, norm of queries and keys, rotary positions, fused attention.
struct DitBlock {
  Tensor operator()(Tensor x) const {
    const int64_t n = x.size(1), width = x.size(2), heads = width / 64;
    const auto m = [&](int64_t i) { return noted(modulation).select(0, i); };
    Tensor h = ops::layer_norm(x, std::nullopt, std::nullopt, m(0), m(1), 1e-6);
    const auto split = [&](const Tensor& t) { return t.view({1, n, heads, 64}).transpose(1, 2); };
    const auto ready = [&](const Tensor& t) {
      return ops::qk_norm_rotary(split(t), noted(gain), std::nullopt, 1e-6, std::nullopt, std::nullopt);
    };
    h = ops::attention(ready(q(h)), ready(k(h)), split(v(h))).transpose(1, 2).reshape({1, n, width});
    x = ops::add_residual(x, out(h), m(2));
    h = ops::layer_norm(x, std::nullopt, std::nullopt, m(3), m(4), 1e-6);
    return ops::add_residual(x, down(ops::activate(up(h), ops::Activation::gelu_tanh)), m(5));
  }
  static constexpr int64_t kWidth = 512;
  Linear q{kWidth, kWidth}, k{kWidth, kWidth}, v{kWidth, kWidth}, out{kWidth, kWidth}, up{kWidth, 4 * kWidth},
      down{4 * kWidth, kWidth};
  Tensor modulation = at::randn({6, 1, 1, kWidth}) * 0.1, gain = at::ones({64});
};

}  // namespace

std::vector<std::string> chunk_shape_names() { return {"gpt", "vit", "unet", "dit"}; }

ChunkShape chunk_shape(const std::string& name) {
  if (name == "gpt") return transformer(name, 768, 12, true, 1024, 2);
  if (name == "vit") return transformer(name, 1024, 16, false, 576, 2);
  if (name == "unet") {
    const auto model = std::make_shared<UNet>();
    return {name,
            true,
            64,
            16,
            [](int64_t n) {
              return at::randn({1, 3, n, n});
            },
            [model](const Tensor& x) { return (*model)(x); }};
  }
  if (name == "dit") {
    const auto blocks = std::make_shared<std::vector<DitBlock>>(2);
    return {name,
            false,
            2048,
            16,
            [](int64_t n) {
              return at::randn({1, n, DitBlock::kWidth});
            },
            [blocks](const Tensor& in) {
              Tensor x = in;
              for (const DitBlock& block : *blocks) x = block(std::move(x));
              return x;
            }};
  }
  throw UsageError(concat("there is no shape \"", name, "\""), "gpt, vit, unet and dit are known");
}

}  // namespace kinora::cli
