#include "kinora/graph/shape_rules.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "kinora/base/error.h"
#include "kinora/graph/capture.h"

namespace kinora::graph {
namespace {

struct Case {
  std::vector<Tensor> inputs;
  std::function<std::vector<Tensor>(const std::vector<Tensor>&)> f;
};

Tensor random(at::IntArrayRef sizes) { return at::rand(sizes); }

std::vector<Case> elementwise_cases() {
  const Tensor x = random({3, 5, 7}), strided = random({5, 7, 3}).permute({2, 0, 1});
  std::vector<Case> cases;
  for (const Tensor& t : {x, strided}) {
    cases.push_back({{t}, [](const auto& in) -> std::vector<Tensor> { return {at::relu(in[0])}; }});
    cases.push_back({{t}, [](const auto& in) -> std::vector<Tensor> { return {at::hardswish(in[0])}; }});
    cases.push_back({{t}, [](const auto& in) -> std::vector<Tensor> { return {at::abs(in[0])}; }});
    cases.push_back({{t}, [](const auto& in) -> std::vector<Tensor> { return {at::logical_not(in[0])}; }});
    cases.push_back(
        {{t, random({5, 1})}, [](const auto& in) -> std::vector<Tensor> { return {at::logical_and(in[0], in[1])}; }});
    cases.push_back(
        {{t, random({5, 1})}, [](const auto& in) -> std::vector<Tensor> { return {at::logical_or(in[0], in[1])}; }});
    cases.push_back({{t}, [](const auto& in) -> std::vector<Tensor> { return {at::isnan(in[0])}; }});
    cases.push_back({{t}, [](const auto& in) -> std::vector<Tensor> { return {at::nan_to_num(in[0])}; }});
    cases.push_back({{t}, [](const auto& in) -> std::vector<Tensor> { return {at::flip(in[0], {1})}; }});
    cases.push_back({{t, t.gt(0.5), random({5, 1})},
                     [](const auto& in) -> std::vector<Tensor> { return {at::where(in[1], in[0], in[2])}; }});
    cases.push_back(
        {{t, t + 1}, [](const auto& in) -> std::vector<Tensor> { return {at::floor_divide(in[0], in[1])}; }});
    cases.push_back({{t}, [](const auto& in) -> std::vector<Tensor> { return {at::layer_norm(in[0], {7})}; }});
  }
  cases.push_back({{x}, [](const auto& in) -> std::vector<Tensor> { return {at::roll(in[0], {2}, {1})}; }});
  cases.push_back({{x, random({4})},
                   [](const auto& in) -> std::vector<Tensor> { return {at::bucketize(in[0], at::cumsum(in[1], 0))}; }});
  cases.push_back({{x, random({3, 5, 2})}, [](const auto& in) -> std::vector<Tensor> {
                     return {at::searchsorted(at::cumsum(in[0], -1), in[1])};
                   }});
  return cases;
}

std::vector<Case> reduction_cases() {
  const Tensor x = random({3, 5, 7});
  const std::vector<int64_t> both{1, 2};
  std::vector<Case> cases;
  for (const bool keep : {true, false}) {
    cases.push_back({{x}, [=](const auto& in) -> std::vector<Tensor> { return {at::var(in[0], both, true, keep)}; }});
    cases.push_back({{x}, [=](const auto& in) -> std::vector<Tensor> {
                       return {at::var(in[0], at::OptionalIntArrayRef(both), std::optional<at::Scalar>(0), keep)};
                     }});
    cases.push_back({{x}, [=](const auto& in) -> std::vector<Tensor> { return {at::std(in[0], both, true, keep)}; }});
    cases.push_back({{x}, [=](const auto& in) -> std::vector<Tensor> {
                       return {at::std(in[0], at::OptionalIntArrayRef(both), std::optional<at::Scalar>(0), keep)};
                     }});
    cases.push_back({{x}, [=](const auto& in) -> std::vector<Tensor> {
                       const auto [v, m] = at::var_mean(in[0], both, true, keep);
                       return {v, m};
                     }});
    cases.push_back({{x}, [=](const auto& in) -> std::vector<Tensor> {
                       const auto [v, m] =
                           at::var_mean(in[0], at::OptionalIntArrayRef(both), std::optional<at::Scalar>(0), keep);
                       return {v, m};
                     }});
    cases.push_back({{x}, [=](const auto& in) -> std::vector<Tensor> { return {at::logsumexp(in[0], both, keep)}; }});
  }
  return cases;
}

std::vector<Case> conv_cases() {
  std::vector<Case> cases;
  const auto add = [&](std::vector<Tensor> in, const std::function<Tensor(const std::vector<Tensor>&)>& f) {
    cases.push_back({std::move(in), [f](const auto& x) -> std::vector<Tensor> { return {f(x)}; }});
  };
  add({random({2, 4, 11}), random({6, 2, 3}), random({6})},
      [](const auto& x) { return at::conv1d(x[0], x[1], x[2], 2, 1, 2, 2); });
  add({random({2, 4, 11, 9}), random({6, 4, 3, 2})}, [](const auto& x) {
    return at::conv2d(x[0], x[1], {}, {2, 1}, {1, 0});
  });
  add({random({2, 4, 5, 7, 6}), random({6, 4, 3, 1, 3}), random({6})}, [](const auto& x) {
    return at::conv3d(x[0], x[1], x[2], 1, {0, 0, 1});
  });
  add({random({2, 4, 11}), random({4, 3, 3}), random({6})},
      [](const auto& x) { return at::conv_transpose1d(x[0], x[1], x[2], 2, 1, 1, 2); });
  add({random({2, 4, 6, 5}), random({4, 3, 3, 2})},
      [](const auto& x) { return at::conv_transpose2d(x[0], x[1], {}, 2, 1); });
  add({random({2, 4, 3, 6, 5}), random({4, 3, 2, 3, 2})},
      [](const auto& x) { return at::conv_transpose3d(x[0], x[1]); });
  add({random({2, 4, 6, 5})}, [](const auto& x) { return at::group_norm(x[0], 2); });
  add({random({2, 4, 6, 5}), random({4}), random({4})},
      [](const auto& x) { return at::batch_norm(x[0], {}, {}, x[1], x[2], false, 0.1, 1e-5, true); });
  add({random({2, 4, 9})}, [](const auto& x) { return at::reflection_pad1d(x[0], {2, 1}); });
  add({random({2, 4, 6, 5})}, [](const auto& x) { return at::reflection_pad2d(x[0], {1, 2, 3, 0}); });
  add({random({2, 4, 3, 6, 5})}, [](const auto& x) { return at::reflection_pad3d(x[0], {1, 2, 3, 0, 1, 1}); });
  add({random({2, 4, 6, 5})}, [](const auto& x) { return at::adaptive_avg_pool2d(x[0], {3, 2}); });
  add({random({2, 4, 6, 5})}, [](const auto& x) { return at::im2col(x[0], {3, 2}, {1, 1}, {1, 0}, {2, 1}); });
  return cases;
}

std::vector<Case> table_and_product_cases() {
  std::vector<Case> cases;
  const auto add = [&](std::vector<Tensor> in, const std::function<Tensor(const std::vector<Tensor>&)>& f) {
    cases.push_back({std::move(in), [f](const auto& x) -> std::vector<Tensor> { return {f(x)}; }});
  };
  const Tensor q = random({2, 3, 17, 8}), k = random({2, 3, 11, 8});
  const Tensor rows = random({2, 17, 3, 8}).transpose(1, 2);
  const auto attend = [](const auto& x) { return at::scaled_dot_product_attention(x[0], x[1], x[2]); };
  add({q, k, k * 2}, attend);
  add({rows, k, k * 2}, attend);
  add({q.to(at::kBFloat16), k.to(at::kBFloat16), k.to(at::kBFloat16)}, attend);
  add({q.to(at::kDouble), k.to(at::kDouble), k.to(at::kDouble)}, attend);
  add({q, k, random({2, 3, 11, 5})}, attend);
  add({q[0], k[0], k[0] * 2}, attend);
  add({q, k, k * 2, random({17, 11})},
      [](const auto& x) { return at::scaled_dot_product_attention(x[0], x[1], x[2], x[3]); });
  add({random({9, 4}), at::randint(0, 9, {2, 3})}, [](const auto& x) { return at::embedding(x[0], x[1]); });
  add({random({9, 4, 2}), at::randint(0, 4, {7})}, [](const auto& x) { return at::index_select(x[0], -2, x[1]); });
  add({random({1, 9, 4}), random({3, 5, 4})}, [](const auto& x) { return at::cdist(x[0], x[1]); });
  add({at::randint(-9, 9, {32, 16}, at::kChar), at::randint(-9, 9, {16, 24}, at::kChar)},
      [](const auto& x) { return at::_int_mm(x[0], x[1]); });
  return cases;
}

TEST(ShapeRules, AreWhatTheRealKernelsGive) {
  at::NoGradGuard no_grad;
  std::vector<Case> cases;
  for (const auto& some : {elementwise_cases(), reduction_cases(), conv_cases(), table_and_product_cases()}) {
    cases.insert(cases.end(), some.begin(), some.end());
  }
  std::set<std::string> seen;
  for (const Case& c : cases) {
    const Graph graph = capture({c.inputs, {}}, c.f);
    const Node& node = graph.nodes.back();
    const ShapeRule* const rule = find_shape_rule(node.op.schema());
    ASSERT_NE(rule, nullptr) << node.name();
    seen.insert(std::string(rule->name));
    const std::vector<Tensor> real = c.f(c.inputs);
    ASSERT_EQ(real.size(), graph.outputs.size());
    for (size_t i = 0; i < real.size(); ++i) {
      const Tensor& twin = graph.value(graph.outputs[i]).twin;
      EXPECT_EQ(twin.sizes(), real[i].sizes()) << rule->name;
      EXPECT_EQ(twin.strides(), real[i].strides()) << rule->name;
      EXPECT_EQ(twin.scalar_type(), real[i].scalar_type()) << rule->name;
    }
  }
  for (const ShapeRule& rule : shape_rules()) EXPECT_TRUE(seen.count(std::string(rule.name))) << rule.name;
}

}  // namespace
}  // namespace kinora::graph
