#include "kinora/cli/chunk_shapes.h"

#include <memory>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/chunk_layers.h"
#include "kinora/ops/attention.h"
#include "kinora/ops/linear.h"

namespace kinora::cli {
namespace {

using at::Tensor;

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

/// Three levels, one residual block each, attention at the lowest: 64, 128, 256 channels.
struct UNet {
  Tensor operator()(const Tensor& in) const {
    const Tensor a = r1(first(in));
    const Tensor b = r2(down1(a));
    Tensor c = attention(r3(down2(b)));
    c = up2(at::upsample_nearest2d(r4(c), {2 * c.size(2), 2 * c.size(3)}));
    Tensor d = r5(at::cat({c, b}, 1));
    d = up1(at::upsample_nearest2d(d, {2 * d.size(2), 2 * d.size(3)}));
    return last(r6(at::cat({d, a}, 1)));
  }
  Conv first{3, 64, 3}, down1{64, 128, 3, 2}, down2{128, 256, 3, 2}, up2{256, 128, 3}, up1{128, 64, 3}, last{64, 3, 3};
  Resnet r1{64, 64}, r2{128, 128}, r3{256, 256}, r4{256, 256}, r5{256, 128}, r6{128, 64};
  PictureAttention attention{256, 32};
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

std::vector<std::string> chunk_shape_names() { return {"gpt", "vit", "unet", "dit", "gpt2-96", "vit-l-384", "unet2d"}; }

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
  if (name == "gpt2-96") return gpt2_shape();
  if (name == "vit-l-384") return vit_shape();
  if (name == "unet2d") return unet2d_shape();
  std::string known;
  for (const std::string& one : chunk_shape_names()) known += concat(known.empty() ? "" : ", ", one);
  throw UsageError(concat("there is no shape \"", printable(name, 200), "\""), concat("these are known: ", known));
}

}  // namespace kinora::cli
