#include "kinora/graph/rule_cases.h"

#include "kinora/graph/capture.h"
#include "kinora/nn/linear_by_id.h"
#include "kinora/ops/attention.h"
#include "kinora/ops/byte_linear.h"
#include "kinora/ops/conv.h"
#include "kinora/ops/linear.h"
#include "kinora/ops/norm.h"

namespace kinora::graph {
namespace {

/// One layer whose weight goes by its id.
class ById final : public SourceById {
 public:
  ById(Tensor weight, Tensor bias) : tensors_{std::move(weight), std::move(bias)} {}
  Tensor get(const Param& param) override { return tensors_[static_cast<size_t>(param.id)]; }
  bool is_by_id(int32_t id) const override { return id == 0; }
  Tensor linear_now(const Tensor& x, int32_t id, const std::optional<Tensor>& bias) override {
    return at::linear(x, weight_now(id), bias);
  }
  Tensor weight_now(int32_t id) override { return tensors_[static_cast<size_t>(id)]; }
  int64_t out_features(int32_t id) const override { return tensors_[static_cast<size_t>(id)].size(0); }

 private:
  std::vector<Tensor> tensors_;
};

}  // namespace

std::vector<RuleCase> window_cases() {
  RuleCases cases;
  const auto add = [&](const char* dims, const RuleCases::Tensors& in, auto f) { cases.add(dims, in, f); };
  const Tensor x = draw({2, 4, 9, 7}), w = draw({6, 4, 3, 3}), b = draw({6}), v = draw({2, 4, 6, 5, 5});
  add("0123", {x, w, b}, [](const auto& in) { return ops::conv(in[0], in[1], in[2], {1, 1}, {1, 1}); });
  add("0123", {x, w, b}, [](const auto& in) { return ops::conv(in[0], in[1], in[2], {2, 2}, {0, 1}); });
  add("01234", {v, draw({3, 4, 3, 1, 3}), draw({3})}, [](const auto& in) {
    return ops::conv(in[0], in[1], in[2], {1, 1, 1}, {0, 0, 1});
  });
  add("012", {draw({2, 4, 11}), draw({6, 4, 3}), b},
      [](const auto& in) { return at::conv1d(in[0], in[1], in[2], 1, 2, 2); });
  add("0123", {x, w, b}, [](const auto& in) { return at::conv2d(in[0], in[1], in[2], {3, 2}, {2, 1}); });
  add("023", {x, draw({6, 2, 3, 3}), b}, [](const auto& in) { return at::conv2d(in[0], in[1], in[2], 1, 1, 1, 2); });
  add("01234", {v, draw({3, 4, 2, 2, 2})}, [](const auto& in) { return at::conv3d(in[0], in[1], {}, 1, 1); });
  add("01", {x, draw({4}), draw({4})}, [](const auto& in) { return at::group_norm(in[0], 2, in[1], in[2]); });
  add("01", {x, draw({4}), draw({4})},
      [](const auto& in) { return ops::group_norm(in[0], 2, in[1], in[2], 1e-5, ops::Activation::silu); });
  add("012", {draw({2, 4, 5})}, [](const auto& in) { return at::upsample_nearest1d(in[0], {10}); });
  add("0123", {x}, [](const auto& in) { return at::upsample_nearest2d(in[0], {18, 21}); });
  add("0123", {x}, [](const auto& in) { return at::_upsample_nearest_exact2d(in[0], {18, 21}); });
  add("01", {x}, [](const auto& in) { return at::upsample_nearest2d(in[0], {13, 8}); });
  add("01234", {v}, [](const auto& in) { return at::upsample_nearest3d(in[0], {6, 10, 15}); });
  add("0123", {x}, [](const auto& in) { return at::avg_pool2d(in[0], {3, 2}); });
  add("0123", {x}, [](const auto& in) { return at::max_pool2d(in[0], {2, 2}, {1, 2}); });
  add("01", {x}, [](const auto& in) { return at::max_pool2d(in[0], {2, 2}, {1, 2}, {1, 1}); });
  return std::move(cases.all);
}

std::vector<RuleCase> rule_cases() {
  RuleCases cases;
  const auto add = [&](const char* dims, const RuleCases::Tensors& in, auto f) { cases.add(dims, in, f); };
  const Tensor x = draw({2, 5, 8}), w = draw({6, 8}), b = draw({6}), q = draw({2, 3, 7, 4}), k = draw({2, 3, 9, 4}),
               a = draw({4, 6}), c = draw({6, 5});
  add("012", {x, w, b}, [](const auto& in) { return at::linear(in[0], in[1], in[2]); });
  add("012", {x, w, b}, [](const auto& in) { return ops::linear(in[0], in[1], in[2]); });
  add("01", {x}, [source = std::make_shared<ById>(w, b)](const auto& in) {
    const ConstantsAllowed inside;
    const Param weight{.id = 0, .name = "weight", .shape = {6, 8}}, bias{.id = 1, .name = "bias", .shape = {6}};
    return source->linear(in[0], weight, &bias);
  });
  const ops::ByteRows bytes = ops::to_byte_rows(w, ops::ByteFormat::int8);
  add("012", {x, bytes.values, bytes.scales, b}, [](const auto& in) {
    return ops::byte_linear(in[0], {in[1], in[2]}, in[3]);
  });
  add("0123", {q, k.transpose(2, 3)}, [](const auto& in) { return at::matmul(in[0], in[1]); });
  add("012", {x, w.t()}, [](const auto& in) { return at::matmul(in[0], in[1]); });
  add("", {x, draw({8})}, [](const auto& in) { return at::matmul(in[0], in[1]); });
  add("012", {draw({3, 4, 6}), draw({3, 6, 5})}, [](const auto& in) { return at::bmm(in[0], in[1]); });
  add("01", {a, c}, [](const auto& in) { return at::mm(in[0], in[1]); });
  add("01", {at::randint(-9, 9, {32, 16}, at::kChar), at::randint(-9, 9, {16, 24}, at::kChar)},
      [](const auto& in) { return at::_int_mm(in[0], in[1]); });
  add("01", {draw({5}), a, c}, [](const auto& in) { return at::addmm(in[0], in[1], in[2]); });
  add("012", {draw({3, 4, 5}), draw({3, 4, 6}), draw({3, 6, 5})},
      [](const auto& in) { return at::baddbmm(in[0], in[1], in[2]); });
  add("0123", {q, draw({3, 4, 5})}, [](const auto& in) {
    return at::einsum("b h n d, h d m -> m b h n", {in[0], in[1]});
  });
  add("01", {x}, [](const auto& in) { return at::layer_norm(in[0], {8}); });
  add("01", {x, draw({8}), draw({8}), draw({2, 1, 8}), draw({2, 5, 8})},
      [](const auto& in) { return ops::layer_norm(in[0], in[1], in[2], in[3], in[4], 1e-6); });
  add("01", {x, draw({8})}, [](const auto& in) { return ops::rms_norm(in[0], in[1], 1e-6); });
  add("012", {q, draw({4}), draw({7, 2}), draw({7, 2})},
      [](const auto& in) { return ops::qk_norm_rotary(in[0], in[1], std::nullopt, 1e-6, in[2], in[3]); });
  add("012", {q, draw({2, 1, 7, 2}), draw({2, 1, 7, 2})},
      [](const auto& in) { return ops::qk_norm_rotary(in[0], std::nullopt, std::nullopt, 1e-6, in[1], in[2]); });
  add("02", {x}, [](const auto& in) { return at::softmax(in[0], 1); });
  add("01", {x}, [](const auto& in) { return at::_softmax(in[0], -1, false); });
  add("02", {x}, [](const auto& in) { return at::log_softmax(in[0], 1); });
  add("02", {x}, [](const auto& in) { return at::cumsum(in[0], 1); });
  add("02", {x}, [](const auto& in) { return at::sum(in[0], {1}, true); });
  add("02", {x}, [](const auto& in) { return at::mean(in[0], {1}, true); });
  add("02", {x}, [](const auto& in) { return at::amax(in[0], {1}, true); });
  add("02", {x}, [](const auto& in) { return at::amin(in[0], {1}, true); });
  add("02", {x}, [](const auto& in) { return at::argmax(in[0], 1, true); });
  add("02", {x}, [](const auto& in) { return at::argmin(in[0], 1, true); });
  add("02", {x}, [](const auto& in) { return at::logsumexp(in[0], at::IntArrayRef{1}, true); });
  add("02", {x}, [](const auto& in) { return at::var(in[0], at::IntArrayRef{1}, true, true); });
  add("02", {x}, [](const auto& in) { return at::std(in[0], at::IntArrayRef{1}, true, true); });
  add("02", {x}, [](const auto& in) {
    return at::var(in[0], at::OptionalIntArrayRef(at::IntArrayRef{1}), std::optional<at::Scalar>(0), true);
  });
  add("02", {x}, [](const auto& in) {
    return at::std(in[0], at::OptionalIntArrayRef(at::IntArrayRef{1}), std::optional<at::Scalar>(0), true);
  });
  add("01", {q}, [](const auto& in) { return at::sum(in[0], {1, -1}); });
  add("0", {x}, [](const auto& in) { return at::sum(in[0], {1, 2}); });
  add("02", {x}, [](const auto& in) -> RuleCases::Tensors {
    const auto [v, m] = at::var_mean(in[0], at::IntArrayRef{1}, true, true);
    return {v, m};
  });
  add("02", {x}, [](const auto& in) -> RuleCases::Tensors {
    const auto [v, m] =
        at::var_mean(in[0], at::OptionalIntArrayRef(at::IntArrayRef{1}), std::optional<at::Scalar>(0), true);
    return {v, m};
  });
  add("012", {q, k, k}, [](const auto& in) { return at::scaled_dot_product_attention(in[0], in[1], in[2]); });
  add("012", {q, k, k, draw({2, 1, 7, 9})},
      [](const auto& in) { return at::scaled_dot_product_attention(in[0], in[1], in[2], in[3]); });
  add("", {q, q, q}, [](const auto& in) { return at::scaled_dot_product_attention(in[0], in[1], in[2], {}, 0, true); });
  add("012", {q, k, k, draw({7, 9}) > 0.3}, [](const auto& in) { return ops::attention(in[0], in[1], in[2], in[3]); });
  add("12", {q, draw({3, 8, 4}), draw({3, 8, 4})}, [](const auto& in) {
    return ops::attention_packed(in[0], in[1], in[2], {5, 3});
  });
  add("012", {draw({9, 4}), at::randint(0, 9, {2, 3})}, [](const auto& in) { return at::embedding(in[0], in[1]); });
  add("012", {x, at::randint(0, 5, {7})}, [](const auto& in) { return at::index_select(in[0], 1, in[1]); });
  for (const auto& some : {elementwise_cases(), view_cases(), window_cases()}) {
    cases.all.insert(cases.all.end(), some.begin(), some.end());
  }
  return std::move(cases.all);
}

}  // namespace kinora::graph
