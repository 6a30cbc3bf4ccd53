// Every rule against the operator itself: whole, then a part of the result from parts of the arguments.
#include "kinora/graph/rules.h"

#include <gtest/gtest.h>

#include <set>

#include "kinora/base/error.h"
#include "kinora/graph/capture.h"
#include "kinora/graph/execute.h"
#include "kinora/graph/parts.h"
#include "kinora/graph/rule_cases.h"

namespace kinora::graph {
namespace {

/// Every value as it was when it was made.
std::vector<Tensor> all_values(const Graph& graph, const std::vector<Tensor>& inputs) {
  Values values(graph, inputs);
  std::vector<Tensor> out(graph.values.size());
  for (size_t id = 0; id < inputs.size(); ++id) out[static_cast<size_t>(graph.inputs[id])] = inputs[id].clone();
  for (size_t id = 0; id < out.size(); ++id) {
    if (graph.values[id].constant.defined()) out[id] = graph.values[id].constant;
  }
  for (int i = 0; i < graph.size(); ++i) {
    run_node(graph, i, values, {});
    for (const int id : graph.node(i).results) out[static_cast<size_t>(id)] = values.at(id).clone();
  }
  return out;
}

/// Cuts the node's result along `dim` at several places; false where it cannot be cut at any.
bool cut_everywhere(const Graph& graph, const Node& node, const std::vector<Tensor>& values, int dim) {
  bool any = false;
  const int64_t size = graph.value(node.results[0]).twin.size(dim);
  for (int64_t begin = 0; begin < size; ++begin) {
    for (const int64_t length : {1, 2, 3, 4, 6}) {
      if (begin + length > size || length == size) continue;
      const Part out{dim, begin, begin + length};
      const auto c = cut(graph, node, out);
      if (!c || c->is_two_pass) continue;
      any = true;
      EXPECT_EQ(c->needs.size(), node.reads.size()) << node.name();
      const auto results = run_cut(node, *c, [&](size_t read, int id) {
        return part_of(values[static_cast<size_t>(id)], c->needs[read]).clone();
      });
      EXPECT_EQ(results.size(), node.results.size());
      for (size_t r = 0; r < results.size(); ++r) {
        const Tensor want = part_of(values[static_cast<size_t>(node.results[r])], out);
        EXPECT_EQ(results[r].sizes(), want.sizes()) << node.name() << " dim " << dim << " from " << begin;
        EXPECT_TRUE(at::allclose(results[r].to(at::kDouble), want.to(at::kDouble), 1e-12, 1e-12))
            << node.name() << " dim " << dim << " rows " << begin << " .. " << begin + length;
      }
    }
  }
  return any;
}

TEST(Rules, PartsAreTheWholesRows) {
  at::NoGradGuard no_grad;
  std::set<std::string> seen;
  std::string last;
  for (const RuleCase& c : rule_cases()) {
    Graph graph;
    ASSERT_NO_THROW(graph = capture({c.inputs, {}}, c.f)) << "after " << last;
    ASSERT_FALSE(graph.nodes.empty()) << "after " << last;
    last = graph.nodes.back().name();
    const Node& node = graph.nodes.back();
    const Rule* const rule = find_rule(node);
    if (!rule) {
      ADD_FAILURE() << "no rule for " << node.name() << "." << node.op.schema().overload_name();
      continue;
    }
    seen.insert(std::string(rule->name));
    const auto values = all_values(graph, c.inputs);
    std::string dims;
    for (int d = 0; d < graph.value(node.results[0]).twin.dim(); ++d) {
      if (cut_everywhere(graph, node, values, d)) dims += static_cast<char>('0' + d);
    }
    EXPECT_EQ(dims, c.dims) << rule->name << " " << graph.value(node.results[0]).twin.sizes();
  }
  seen.insert("aten::empty_like");  // has no values to compare; what writes into it is compared
  for (const Rule& rule : rules()) EXPECT_TRUE(seen.count(std::string(rule.name))) << rule.name;
}

TEST(Rules, UnknownOperatorsAreCutNowhere) {
  const Graph graph =
      capture({{at::rand({4, 6})}, {}}, [](const auto& in) -> std::vector<Tensor> { return {at::tril(in[0])}; });
  for (const int dim : {0, 1}) EXPECT_FALSE(cut(graph, graph.node(0), {dim, 0, 2}));
}

TEST(Rules, AWrongRuleWouldBeSeen) {
  const Tensor x = at::rand({4, 6}, at::kDouble);
  const Graph graph = capture({{x}, {}}, [](const auto& in) -> std::vector<Tensor> { return {at::softmax(in[0], 1)}; });
  EXPECT_FALSE(cut(graph, graph.node(0), {1, 0, 2}));
  Cut wrong{.needs = {{1, 0, 2}}};
  const auto got = run_cut(graph.node(0), wrong, [&](size_t, int) { return x.narrow(1, 0, 2); });
  EXPECT_FALSE(at::allclose(got[0], at::softmax(x, 1).narrow(1, 0, 2)));
}

TEST(Rules, GroupNormOverRowsNeedsTwoPasses) {
  const Graph graph = capture({{at::rand({2, 4, 6, 5})}, {}},
                              [](const auto& in) -> std::vector<Tensor> { return {at::group_norm(in[0], 2)}; });
  EXPECT_TRUE(cut(graph, graph.node(0), {2, 0, 3})->is_two_pass);
  EXPECT_FALSE(cut(graph, graph.node(0), {1, 0, 2})->is_two_pass);
  EXPECT_FALSE(cut(graph, graph.node(0), {1, 0, 1}));  // half a group
}

TEST(Rules, CountFlops) {
  const Tensor x = at::rand({2, 3, 8}), w = at::rand({5, 8}), q = at::rand({2, 3, 7, 4}), k = at::rand({2, 3, 9, 4});
  const Graph graph = capture({{x, w, q, k, at::rand({2, 4, 6, 6}), at::rand({5, 4, 3, 3})}, {}},
                              [](const auto& in) -> std::vector<Tensor> {
                                return {at::linear(in[0], in[1]), at::scaled_dot_product_attention(in[2], in[3], in[3]),
                                        at::conv2d(in[4], in[5])};
                              });
  EXPECT_EQ(flops(graph, graph.node(0)), 2 * 2 * 3 * 5 * 8);
  EXPECT_EQ(flops(graph, graph.node(1)), 4 * 2 * 3 * 7 * 4 * 9);
  EXPECT_EQ(flops(graph, graph.node(2)), 2 * 2 * 5 * 4 * 4 * 4 * 9);
}

}  // namespace
}  // namespace kinora::graph
