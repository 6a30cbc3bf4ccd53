#include "kinora/graph/capture.h"

#include <gtest/gtest.h>

#include <thread>

#include "kinora/base/error.h"
#include "kinora/graph/execute.h"
#include "kinora/tensor/allocator.h"

namespace kinora::graph {
namespace {

using Tensors = std::vector<Tensor>;

TEST(Capture, SeesCompositeOperatorsWholeAndReplaysBitForBit) {
  const Tensor x = at::rand({2, 5, 8}), w = at::rand({8, 8}), b = at::rand({8});
  const auto f = [](const Tensors& in) -> Tensors {
    const Tensor h = at::layer_norm(in[0], {8});
    const Tensor q = at::linear(h, in[1], in[2]).view({2, 5, 2, 4}).transpose(1, 2);
    return {at::scaled_dot_product_attention(q, q, q), 2 - h};
  };
  const Graph graph = capture({{x, w, b}, {}}, f);
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) names.push_back(node.name());
  EXPECT_EQ(names, (std::vector<std::string>{"aten::layer_norm", "aten::linear", "aten::view", "aten::transpose",
                                             "aten::scaled_dot_product_attention", "aten::empty_like", "aten::fill_",
                                             "aten::sub_"}));
  std::vector<std::string> mismatches;
  const Tensors got = replay(graph, {x * 3, w, b}, {.poisons = true, .mismatches = &mismatches}),
                want = f({x * 3, w, b});
  EXPECT_TRUE(got[0].equal(want[0]));
  EXPECT_TRUE(got[1].equal(want[1]));
  EXPECT_TRUE(mismatches.empty()) << mismatches.front();
}

TEST(Capture, AllocatesNothing) {
  static Ledger ledger;
  install_counting_allocator(ledger);
  const Tensor x = at::rand({64, 4096});
  ledger.reset_peaks();
  const uint64_t before = ledger.current_total();
  const Graph graph =
      capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {at::softmax((in[0] * 2).exp(), -1)}; });
  EXPECT_EQ(graph.nodes.size(), 3u);
  EXPECT_LT(ledger.peak_total() - before, 1000u);
}

TEST(Capture, WritesMakeNewVersionsOfOneStorage) {
  const Tensor x = at::rand({3, 4});
  const auto f = [](const Tensors& in) -> Tensors {
    Tensor y = in[0] * 2;
    const Tensor before = y + 1;
    y.narrow(0, 0, 1).add_(5);
    y.mul_(3);
    return {y, before};
  };
  const Graph graph = capture({{x}, {}}, f);
  const Tensors got = replay(graph, {x}, {.poisons = true}), want = f({x});
  EXPECT_TRUE(got[0].equal(want[0]) && got[1].equal(want[1]));
  const int first = graph.node(0).results[0], last = graph.outputs[0];
  EXPECT_NE(first, last);
  EXPECT_EQ(graph.value(first).root, graph.value(last).root);
  EXPECT_TRUE(graph.storage_of(first).is_written_later);
}

TEST(Capture, FactoriesOnTwinsMakeRealTensors) {
  const auto f = [](const Tensors& in) -> Tensors { return {in[0] + at::arange(4, in[0].options())}; };
  const Tensor x = at::rand({3, 4});
  const Graph graph = capture({{x}, {}}, f);
  EXPECT_TRUE(replay(graph, {x})[0].equal(f({x})[0]));
}

TEST(Capture, ConditioningIsAnInputAndOtherTensorsAreRefused) {
  const Tensor x = at::rand({4}), given = at::rand({4});
  const auto f = [&](const Tensors& in) -> Tensors { return {in[0] * given}; };
  EXPECT_THROW(capture({{x}, {}}, f), std::logic_error);
  const Graph graph = capture({{x}, {given, Tensor()}}, f);
  EXPECT_TRUE(replay(graph, {x, given + 1, Tensor()})[0].equal(x * (given + 1)));
  EXPECT_THROW(capture({{x}, {}}, [](const Tensors&) -> Tensors { return {at::empty({2}, at::kMeta)}; }),
               std::logic_error);
}

TEST(Capture, WeightsAreConstantsAndWhatComesOfThemAloneIsComputedOnce) {
  const Tensor x = at::rand({4}), w = at::rand({4});
  const Graph graph = capture({{x}, {}}, [&](const Tensors& in) -> Tensors {
    note_constant(w);
    return {in[0] * w.exp().add(1)};
  });
  EXPECT_EQ(graph.nodes.size(), 1u);
  EXPECT_TRUE(replay(graph, {x})[0].equal(x * w.exp().add(1)));
}

TEST(Capture, OfWeightsWithoutMemoryTheGraphIsTheSame) {
  const auto graph_of = [](const at::TensorOptions& options) {
    const Tensor x = at::zeros({4, 8}, options), w = at::zeros({8, 8}, options), table = at::zeros({2, 8}, options);
    return capture({{x}, {}}, [&](const Tensors& in) -> Tensors {
      note_constant(w), note_constant(table);
      return {at::linear(in[0] * table.narrow(0, 1, 1), w)};
    });
  };
  EXPECT_EQ(text_of(graph_of(at::kMeta)), text_of(graph_of(at::kCPU)));
}

TEST(Capture, RefusesWritesIntoInputsAndConstants) {
  const Tensor x = at::rand({4}), w = at::rand({4});
  EXPECT_THROW(capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {in[0].narrow(0, 0, 2).add_(1)}; }),
               std::logic_error);
  EXPECT_THROW(capture({{x}, {}},
                       [&](const Tensors& in) -> Tensors {
                         note_constant(w);
                         w.add_(1);
                         return {in[0] * w};
                       }),
               std::logic_error);
}

TEST(Capture, RefusesAValueThatNoOperatorWrote) {
  const Tensor x = at::rand({4});
  EXPECT_THROW(capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {in[0] + at::empty_like(in[0])}; }),
               std::logic_error);
  EXPECT_THROW(capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {at::empty_like(in[0])}; }),
               std::logic_error);
  EXPECT_NO_THROW(
      capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {in[0] + at::empty_like(in[0]).zero_()}; }));
}

TEST(Capture, FollowsListsWritesAndFactories) {
  const Tensor x = at::arange(6, at::kDouble).view({2, 3});
  const auto f = [](const Tensors& in) -> Tensors {
    const auto parts = in[0].chunk(3, 1);
    Tensor sum = at::zeros_like(parts[1]);
    sum.add_(parts[2]).mul_(3);
    Tensor wide = at::cat({2 - parts[0], sum, parts[1]}, 1);
    wide.narrow(1, 1, 1).add_(at::ones({2, 1}, in[0].options()));
    return {at::where(wide > 1, wide, -wide), wide.select(1, 0)};
  };
  const Graph graph = capture({{x}, {}}, f);
  const auto got = replay(graph, {x + 5}), want = f({x + 5});
  EXPECT_TRUE(got[0].equal(want[0]));
  EXPECT_TRUE(got[1].equal(want[1]));
  EXPECT_FALSE(got[1].is_alias_of(got[0]));
}

/// An operator as nobody must write one: its kernel is no dispatcher call.
Tensor doubled_behind_the_dispatcher(const Tensor& x) {
  Tensor out = at::empty_like(x);
  const auto* from = x.const_data_ptr<double>();
  auto* to = out.mutable_data_ptr<double>();
  for (int64_t i = 0; from && to && i < x.numel(); ++i) to[i] = 2 * from[i];
  return out;
}

TEST(Capture, BrokenCallsAreSeen) {
  const Tensor x = at::ones({2, 3}, at::kDouble);
  ASSERT_TRUE(doubled_behind_the_dispatcher(x).equal(x * 2));
  EXPECT_ANY_THROW(
      capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {doubled_behind_the_dispatcher(in[0])}; }));
  EXPECT_ANY_THROW(
      capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {doubled_behind_the_dispatcher(in[0]) + 1}; }));
  EXPECT_THROW(capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {in[0].add_(1)}; }), std::logic_error);
  EXPECT_THROW(capture({{x}, {}}, [&](const Tensors& in) -> Tensors { return {in[0] + x}; }), std::logic_error);
  EXPECT_ANY_THROW(
      capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {in[0] * in[0].sum().item<double>()}; }));
}

TEST(Capture, BelongsToItsThread) {
  const Tensor x = at::rand({4});
  const Graph graph = capture({{x}, {}}, [&](const Tensors& in) -> Tensors {
    std::thread([&] { EXPECT_TRUE((x + 1).equal(at::add(x, 1))); }).join();
    return {in[0] + 1};
  });
  EXPECT_EQ(graph.nodes.size(), 1u);
  EXPECT_TRUE(replay(graph, {x * 2})[0].equal(x * 2 + 1));
}

TEST(Capture, DispatchKeyIsSeen) { EXPECT_NO_THROW(check_dispatch_key()); }

TEST(Replay, OutputsHaveStoragesOfTheirOwn) {
  const Tensor x = at::rand({4, 6});
  const Graph graph = capture({{x}, {}}, [](const Tensors& in) -> Tensors {
    const Tensor y = in[0] * 2;
    return {y, y.narrow(0, 0, 2), in[0].narrow(0, 1, 1), y.view({6, 4})};
  });
  const Tensors got = replay(graph, {x});
  std::set<const void*> storages{x.storage().data()};
  for (const Tensor& t : got) {
    EXPECT_TRUE(storages.insert(t.storage().data()).second);
    EXPECT_EQ(t.numel() * t.element_size(), t.storage().nbytes());
  }
  EXPECT_TRUE(got[3].equal((x * 2).view({6, 4})));
}

TEST(Replay, RefusesOtherShapes) {
  const Tensor x = at::rand({4, 6});
  const Graph graph = capture({{x}, {}}, [](const Tensors& in) -> Tensors { return {in[0] * 2}; });
  EXPECT_THROW(replay(graph, {at::rand({4, 5})}), UsageError);
  EXPECT_THROW(replay(graph, {x.to(at::kDouble)}), UsageError);
  EXPECT_THROW(replay(graph, {x, x}), UsageError);
}

TEST(Replay, MemoryIsWhatLivenessSays) {
  static Ledger ledger;
  install_counting_allocator(ledger);
  const Tensor x = at::rand({1000, 256});  // 1 MB
  const Graph graph = capture({{x}, {}}, [](const Tensors& in) -> Tensors {
    const Tensor a = in[0] + 1, b = a * 2, c = b.view({256, 1000}).exp(), d = c + 1;  // named, so eager keeps them all
    return {d.sum()};
  });
  const std::vector<int64_t> live = live_bytes(graph);
  const int64_t estimate = *std::max_element(live.begin(), live.end());
  EXPECT_EQ(estimate, 2 * 1024000);
  ledger.reset_peaks();
  const uint64_t before = ledger.current_total();
  replay(graph, {x});
  EXPECT_NEAR(static_cast<double>(ledger.peak_total() - before), static_cast<double>(estimate), 2000);
}

}  // namespace
}  // namespace kinora::graph
