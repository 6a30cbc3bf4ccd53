#include "kinora/graph/chunked.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/graph/test_graphs.h"
#include "kinora/tensor/allocator.h"

namespace kinora::graph {
namespace {

using Tensors = std::vector<Tensor>;

/// Of numbers above 1 relative to them: one of the graphs takes exponentials.
double distance(const Tensors& a, const Tensors& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, ((a[i] - b[i]).abs() / b[i].abs().clamp_min(1)).max().item<double>());
  return worst;
}

/// Fresh copies, moved in.
Tensors copies(const Tensors& all) {
  Tensors out;
  for (const Tensor& t : all) out.push_back(t.clone());
  return out;
}

struct Tally {
  int regions = 0, two_pass = 0, columns = 0, donating = 0, hoisting = 0, halo = 0;
};

void try_region(const TestGraph& test, Router& router, const Region& region, const Tensors& want, Tally& tally) {
  if (!router.runs(region)) return;
  const Graph& graph = router.graph();
  const Chunked chunked(graph, {region});
  const Tensors got = chunked(copies(test.inputs));
  EXPECT_LT(distance(got, want), 1e-11) << test.name << " nodes " << region.begin << " .. " << region.end << " dim "
                                        << region.dim << " chunk " << region.chunk << "\n"
                                        << text_of(graph);
  const auto course = router.course(region, 0, region.chunk);
  ++tally.regions;
  tally.columns += region.kind == RegionKind::columns;
  tally.hoisting += !course->hoisted.empty();
  tally.donating += !donations(graph, region, *course).empty();
  bool has_two_pass = false, has_halo = false;
  for (const Step& s : course->steps) {
    has_two_pass = has_two_pass || s.cut.is_two_pass;
    has_halo = has_halo || (graph.node(s.node).name().find("conv") != std::string::npos &&
                            s.cut.needs[0].length() > s.out.length());
  }
  tally.two_pass += has_two_pass;
  tally.halo += has_halo;
}

TEST(Chunked, EveryRegionThatRunsEqualsTheWhole) {
  at::NoGradGuard no_grad;
  Tally tally;
  for (const TestGraph& test : test_graphs()) {
    const Graph graph = test.capture();
    const Tensors want = test.f(test.inputs);
    EXPECT_EQ(distance(replay(graph, copies(test.inputs), {.poisons = true}), want), 0) << test.name;
    Router router(graph);
    for (int begin = 0; begin < graph.size(); ++begin) {
      for (int end = begin + 1; end <= graph.size(); ++end) {
        for (int dim = 0; dim < 5; ++dim) {
          const int64_t length = router.length({begin, end, RegionKind::rows, dim, 1});
          for (const int64_t chunk : {int64_t{4}, (length + 1) / 2}) {
            if (chunk < length) try_region(test, router, {begin, end, RegionKind::rows, dim, chunk}, want, tally);
          }
        }
        try_region(test, router, {begin, end, RegionKind::columns, 0, 4}, want, tally);
      }
    }
  }
  EXPECT_GT(tally.regions, 1000);
  EXPECT_GT(tally.two_pass, 10);
  EXPECT_GT(tally.columns, 5);
  EXPECT_GT(tally.donating, 10);
  EXPECT_GT(tally.hoisting, 10);
  EXPECT_GT(tally.halo, 10);
}

TEST(Chunked, RefusesRegionsThatCannotRun) {
  const TestGraph test = test_transformer();
  const Graph graph = test.capture();
  EXPECT_THROW(Chunked(graph, {{0, 2, RegionKind::rows, 2, 4}, {1, 3, RegionKind::rows, 1, 4}}), UsageError);
  EXPECT_THROW(Chunked(graph, {{0, 1, RegionKind::rows, 2, 4}}), UsageError);  // across a norm
  EXPECT_THROW(Chunked(graph, {{0, 1, RegionKind::rows, 1, 0}}), UsageError);
  EXPECT_THROW(Chunked(graph, {{0, 99, RegionKind::rows, 1, 4}}), UsageError);
}

TEST(Chunked, AnInputThatSomebodyElseHoldsIsNotWrittenOver) {
  const Tensor x = at::randn({64, 8}, at::kDouble), before = x.clone();
  const Graph graph = capture({{x}, {}, 1}, [](const Tensors& in) -> Tensors { return {(in[0] * 2).exp() + in[0]}; });
  const Chunked chunked(graph, {{0, 3, RegionKind::rows, 0, 16}});
  EXPECT_TRUE(chunked({x})[0].equal((before * 2).exp() + before));
  EXPECT_TRUE(x.equal(before));
  Tensor mine = x.clone();
  const void* const memory = mine.data_ptr();
  Tensors moved;
  moved.push_back(std::move(mine));
  EXPECT_EQ(chunked(std::move(moved))[0].data_ptr(), memory);
}

TEST(Chunked, MemoryIsWhatTheAppraisalSays) {
  static Ledger ledger;
  install_counting_allocator(ledger);
  const Tensor w = at::randn({1024, 256}), v = at::randn({256, 1024});
  const Graph graph = capture({{at::randn({1024, 256}), w, v}, {}, 1}, [](const Tensors& in) -> Tensors {
    return {in[0] + at::linear(at::gelu(at::linear(in[0], in[1])), in[2])};
  });
  Router router(graph);
  for (const int64_t chunk : {128, 256}) {
    const Region region{0, 4, RegionKind::rows, 0, chunk};
    const auto a = appraise(router, region, {}, 16);
    ASSERT_TRUE(a);
    Tensors in{at::randn({1024, 256}), w, v};
    ledger.reset_peaks();
    const uint64_t before = ledger.current_total();
    const Chunked chunked(graph, {region});
    chunked(std::move(in));
    EXPECT_NEAR(static_cast<double>(ledger.peak_total() - before), a->bytes(chunk), 0.03 * a->bytes(chunk));
  }
}

TEST(Chunked, ChunkSizesAreAlignedWithoutTinyTails) {
  const Appraisal a{
      .length = 1000, .align = 16, .tail = 8, .fixed_bytes = 100, .loop_bytes = {{.base = 40, .per_row = 1}, {0, 10}}};
  for (const double bytes : {300.0, 700.0, 1111.0, 2222.0, 5000.0, 20000.0}) {
    const int64_t chunk = a.chunk_within(bytes);
    ASSERT_GT(chunk, 0);
    EXPECT_EQ(chunk % 16, 0);
    EXPECT_LE(a.bytes(chunk), bytes);
    EXPECT_TRUE(1000 % chunk == 0 || 1000 % chunk >= 8) << chunk;
  }
  EXPECT_EQ(a.chunk_within(200), 0);
}

}  // namespace
}  // namespace kinora::graph
