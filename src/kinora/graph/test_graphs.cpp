#include "kinora/graph/test_graphs.h"

#include "kinora/ops/attention.h"
#include "kinora/ops/conv.h"
#include "kinora/ops/linear.h"
#include "kinora/ops/norm.h"
#include "kinora/ops/residual.h"

namespace kinora::graph {
namespace {

using Tensors = std::vector<Tensor>;

Tensor draw(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble) * 0.5; }

}  // namespace

TestGraph test_transformer() {
  const int64_t S = 24, C = 8;
  return {"transformer",
          {draw({2, S, C}), draw({3 * C, C}), draw({C, C}), draw({4 * C, C}), draw({C, 2 * C}), draw({S, S})},
          [=](const Tensors& in) -> Tensors {
            Tensor x = in[0];
            const Tensor h = at::layer_norm(x, {C});
            const auto qkv = at::linear(h, in[1]).view({2, S, 3, 2, C / 2}).permute({2, 0, 3, 1, 4}).unbind(0);
            const Tensor scores = at::matmul(qkv[0] * 0.5, qkv[1].transpose(-2, -1)) + in[5];
            const Tensor mixed = at::matmul(at::softmax(scores, -1), qkv[2]).transpose(1, 2).reshape({2, S, C});
            x = x + at::linear(mixed, in[2]);
            const auto gates = at::linear(at::layer_norm(x, {C}), in[3]).chunk(2, -1);
            return {x + at::linear(at::gelu(gates[0]) * gates[1], in[4])};
          }};
}

TestGraph test_dit() {
  const int64_t T = 3, S = 16, C = 8;
  return {"dit",
          {draw({2, T, S, C}), draw({3 * C, C}), draw({C, C}), draw({4 * C, C}), draw({C, 4 * C}),
           draw({2, 3, 1, 1, C}), draw({S, 2}), draw({S, 2})},
          [=](const Tensors& in) -> Tensors {
            Tensor x = in[0];
            const Tensor m = in[5];
            const auto part = [&](int64_t i) { return m.select(1, i); };
            const Tensor h = ops::layer_norm(x, std::nullopt, std::nullopt, part(0), part(1), 1e-6);
            const auto qkv = ops::linear(h, in[1], std::nullopt).chunk(3, -1);
            const auto heads = [&](size_t i) { return qkv[i].view({2, T, S, 2, C / 2}).permute({0, 1, 3, 2, 4}); };
            const Tensor q = ops::qk_norm_rotary(heads(0), std::nullopt, std::nullopt, 0, in[6], in[7]);
            const Tensor k = ops::qk_norm_rotary(heads(1), std::nullopt, std::nullopt, 0, in[6], in[7]);
            const Tensor out = ops::attention(q.flatten(0, 1), k.flatten(0, 1), heads(2).flatten(0, 1));
            const Tensor home = out.unflatten(0, {2, T}).permute({0, 1, 3, 2, 4}).reshape({2, T, S, C});
            x = ops::add_residual(x, ops::linear(home, in[2], std::nullopt), part(2));
            const Tensor h2 = ops::layer_norm(x, std::nullopt, std::nullopt, std::nullopt, std::nullopt, 1e-6);
            const Tensor hidden = ops::activate(ops::linear(h2, in[3], std::nullopt), ops::Activation::gelu_tanh);
            return {ops::add_residual(x, ops::linear(hidden, in[4], std::nullopt), part(2))};
          }};
}

TestGraph test_resnet() {
  return {"resnet",
          {draw({2, 4, 12, 10}), draw({6, 4, 3, 3}), draw({6, 6, 3, 3}), draw({6, 4, 1, 1}), draw({4}), draw({4}),
           draw({6}), draw({6}), draw({6, 6, 3, 3})},
          [](const Tensors& in) -> Tensors {
            const Tensor& x = in[0];
            Tensor h = ops::group_norm(x, 2, in[4], in[5], 1e-5, ops::Activation::silu);
            h = ops::conv(h, in[1], in[6], {1, 1}, {1, 1});
            h = at::silu(at::group_norm(h, 3, in[6], in[7]));
            h = ops::conv(h, in[2], in[7], {1, 1}, {1, 1});
            h = ops::add_residual(ops::conv(x, in[3], std::nullopt, {1, 1}, {0, 0}), h);
            h = at::conv2d(h, in[8], in[6], 1, 1);
            return {ops::conv(at::upsample_nearest2d(h, {24, 20}), in[8], in[6], {1, 1}, {1, 1})};
          }};
}

TestGraph test_odd() {
  return {"odd", {draw({6, 8, 4}), draw({4, 4}), draw({8, 4})}, [](const Tensors& in) -> Tensors {
            const Tensor pair = at::einsum("sic,cd->sid", {in[0], in[1]});
            Tensor y = pair * 2;
            y.add_(in[2]).mul_(3);
            Tensor z = y + 1;
            z.narrow(1, 0, 3).add_(5);
            const auto parts = (z * y).split(2, 2);
            const Tensor joined = at::cat({parts[1], parts[0]}, 2).exp().sum(2);
            const Tensor table = at::arange(8, in[0].options()) + joined;
            return {at::where(table > 2, table, joined), y.amax({0}), 2 - pair};
          }};
}

}  // namespace kinora::graph
