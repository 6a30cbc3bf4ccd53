// Layouts on heads and streams of their own, against the layout of one process; which models they take.
#include "kinora/parallel/layouts.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"
#include "kinora/comm/single.h"
#include "kinora/comm/threads.h"
#include "kinora/nn/layers.h"
#include "kinora/nn/run.h"
#include "kinora/parallel/megatron.h"
#include "kinora/tensor/test_values.h"

namespace kinora::parallel {
namespace {

constexpr int kRanks[] = {1, 2, 3, 4, 5, 8};
constexpr Extent kExtent{.frames = 3, .rows = 9};
constexpr int64_t kHeads = 3, kText = 4;

/// A model of both kinds of attention, as far as layouts care.
ModelFacts facts_of(bool attends_to_all) {
  ModelFacts f{.name = "a model", .width = 24, .heads = kHeads, .along_frames = 2, .along_rows = 2, .outputs = 8};
  if (attends_to_all) f.along_frames = f.along_rows = 0, f.along_all = 4;
  return f;
}

/// Every way to lay `ranks` ranks out with this layout, both axes and all groupings.
std::vector<Arrangement> arrangements(const std::string& layout, int ranks) {
  std::vector<Arrangement> all;
  for (const Axis home : {Axis::frames, Axis::rows}) {
    Arrangement a{.layout = layout, .home = home, .ranks = ranks};
    const bool has_pieces = layout == "dsp" || layout == "ulysses";
    for (; layout != "ulysses+ring" && a.pieces <= (has_pieces ? 3 : 1); ++a.pieces) all.push_back(a);
    a.pieces = 1;
    for (a.heads_ranks = 1; layout == "ulysses+ring" && a.heads_ranks <= ranks; ++a.heads_ranks) {
      if (ranks % a.heads_ranks == 0) all.push_back(a);
    }
  }
  return all;
}

Heads heads_of(at::IntArrayRef sizes, uint64_t seed) {
  return {normal(sizes, seed), normal(sizes, seed + 1), normal(sizes, seed + 2)};
}

Tensor local(const Layout& layout, const Tensor& t, int frames, int rows) {
  return layout.local(layout.local(t, Axis::frames, frames), Axis::rows, rows);
}

double distance(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return a.numel() == 0 ? 0 : (a - b).abs().max().item<double>();
}

/// Calls `check` on every rank of every arrangement; ranks that own no rows or no heads are among them.
template <typename F>
void on_each(const std::string& name, const ModelFacts& facts, const F& check) {
  for (const int n : kRanks) {
    for (const Arrangement& a : arrangements(name, n)) {
      SCOPED_TRACE(concat(name, " over ", n, ", home ", static_cast<int>(a.home), ", of which heads ", a.heads_ranks,
                          ", pieces ", a.pieces));
      comm::run_ranks(n, [&](Communicator& world) { check(make_layout(a, facts, kExtent, world).layout()); });
    }
  }
}

TEST(Layouts, AttendAlongEitherAxisAsOneProcess) {
  const Heads heads = heads_of({2, 3, kHeads, 9, 8}, 1);  // along rows: [B, T, A, S, D]
  const auto turned = [](const Tensor& t) { return t.transpose(1, 3).contiguous(); };
  const Tensor in_frame = whole_layout().attend(heads, Axis::rows, kExtent);
  const Heads by_row{turned(heads.q), turned(heads.k), turned(heads.v)};  // along frames: [B, S, A, T, D]
  const Tensor in_time = whole_layout().attend(by_row, Axis::frames, kExtent);
  for (const char* name : {"ulysses", "ring", "ulysses+ring"}) {
    on_each(name, facts_of(false), [&](const Layout& layout) {
      const auto frame = [&](const Tensor& t) { return local(layout, t, 1, 3); };
      const auto row = [&](const Tensor& t) { return local(layout, t, 3, 1); };
      const Heads of_frame{frame(heads.q), frame(heads.k), frame(heads.v)};
      const Heads of_row{row(by_row.q), row(by_row.k), row(by_row.v)};
      EXPECT_LT(distance(layout.attend(of_frame, Axis::rows, kExtent), frame(in_frame)), 1e-14);
      EXPECT_LT(distance(layout.attend(of_row, Axis::frames, kExtent), row(in_time)), 1e-14);
    });
  }
}

TEST(Layouts, AttendToAllRowsAndTheTextAsOneProcess) {
  const Heads video = heads_of({2, kHeads, 27, 8}, 1), text = heads_of({2, kHeads, kText, 8}, 9);
  const Streams joint = whole_layout().attend_all(video, &text, kExtent),
                alone = whole_layout().attend_all(video, nullptr, kExtent);
  for (const char* name : {"ulysses", "ring", "ulysses+ring"}) {
    on_each(name, facts_of(true), [&](const Layout& layout) {
      const auto own = [&](const Tensor& t) { return local(layout, t.unflatten(2, {3, 9}), 2, 3).flatten(2, 3); };
      const Heads mine{own(video.q), own(video.k), own(video.v)};
      const Streams got = layout.attend_all(mine, &text, kExtent);
      EXPECT_LT(distance(got[0], own(joint[0])), 1e-14);
      EXPECT_LT(distance(got[1], joint[1]), 1e-14);
      EXPECT_LT(distance(layout.attend_all(mine, nullptr, kExtent)[0], own(alone[0])), 1e-14);
    });
  }
}

/// Brackets of all layouts hand over what `f` expects, and bring it home.
TEST(Layouts, BringRowsHomeFromTheirBrackets) {
  const Tensor x = normal({2, 3, 9, 5}, 1);
  for (const char* name : {"dsp", "dsp-stream"}) {
    on_each(name, facts_of(false), [&](const Layout& layout) {
      for (const Part part : {Part::block, Part::attention}) {
        for (const Axis along : {Axis::frames, Axis::rows}) {
          const kinora::Run run{.layout = &layout};
          const auto there = [&](const kinora::Run& inner, Streams in) -> Streams {
            EXPECT_LT(distance(in[0], local(*inner.layout, x, 1, 2)), 1e-15)
                << "the bracket's layout says what is there";
            const bool switches = (part == Part::block) == (std::string(name) == "dsp-stream");
            if (switches) {
              EXPECT_EQ(in[0].size(static_cast<int64_t>(along)), kExtent.of(along));
            }
            return {in[0] * 2};
          };
          const Tensor home = local(layout, x, 1, 2);
          EXPECT_LT(distance(layout.around(run, {part, along, kExtent}, {home}, there)[0], home * 2), 1e-15);
        }
      }
    });
  }
}

TEST(Layouts, GatherWhatTheyCut) {
  const Tensor x = normal({2, 3, 9, 5}, 1);
  for (const LayoutKind& kind : layouts()) {
    on_each(kind.name, facts_of(false), [&](const Layout& layout) {
      const Tensor rows = layout.whole(local(layout, x, 1, 2), Axis::frames, 1, kExtent);
      EXPECT_TRUE(layout.whole(rows, Axis::rows, 2, kExtent).equal(x));
    });
  }
}

TEST(Layouts, HaveShapesWithoutTheOtherRanks) {
  const Tensor x = at::empty({2, 3, 9, 24}, at::kMeta);
  for (const LayoutKind& kind : layouts()) {
    for (const Arrangement& a : arrangements(kind.name, 2)) {
      SCOPED_TRACE(concat(kind.name, ", home ", static_cast<int>(a.home)));
      const MadeLayout made = shape_of_layout(a, facts_of(false), kExtent);
      const Layout& layout = made.layout();
      const Tensor mine = local(layout, x, 1, 2);
      EXPECT_EQ(mine.size(static_cast<int64_t>(a.home)), (kExtent.of(a.home) + 1) / 2) << "the first rank has most";
      EXPECT_EQ(layout.whole(layout.whole(mine, Axis::frames, 1, kExtent), Axis::rows, 2, kExtent).sizes(), x.sizes());
    }
  }
  EXPECT_THROW(shape_of_layout({.layout = "none of them", .ranks = 2}, facts_of(false), kExtent), UsageError);
}

TEST(HeadWeights, AddUpToTheWholeLayer) {
  Params params;
  const Scope attention = Scope(params) / "attn";
  const Linear qkv(attention / "qkv", 24, 72), q(attention / "to_q", 24, 24), proj(attention / "proj", 24, 24);
  const Param norm = (attention / "q_norm").param("weight", {8}), wide = (attention / "norm_q").param("weight", {24});
  const Linear other(attention / "other", 24, 24);
  const Linear bare_q(Scope(params) / "bare" / "to_q", 24, 24, {.bias = false}),
      bare_proj(Scope(params) / "bare" / "proj", 24, 24, {.bias = false});
  std::vector<Tensor> values;
  for (const Param& p : params) values.push_back(normal(p.shape, 10 + static_cast<uint64_t>(p.id)));
  ResidentWeights whole(values);
  const Tensor x = normal({5, 24}, 1);
  const kinora::Run one{.weights = &whole};
  for (const int n : {1, 2, 3, 5}) {  // three heads
    comm::run_ranks(n, [&](Communicator& group) {
      HeadWeights weights(whole, kHeads, 8, group);
      const kinora::Run run{.weights = &weights};
      const std::vector<int64_t> counts = comm::even_counts(kHeads, n);
      const auto heads = [](const Tensor& t, int64_t parts) { return t.unflatten(1, {parts, -1, 8}); };
      const Tensor of_qkv = heads(qkv(run, x), 3), of_q = heads(q(run, x), 1);
      const std::string name = "heads";
      EXPECT_LT(distance(gather(of_qkv, 2, counts, group, name), heads(qkv(one, x), 3)), 1e-13);
      EXPECT_LT(distance(gather(of_q, 2, counts, group, name), heads(q(one, x), 1)), 1e-13);
      EXPECT_LT(distance(sum(proj(run, of_q.flatten(1)), group, name), proj(one, q(one, x))), 1e-13);
      EXPECT_LT(distance(sum(bare_proj(run, bare_q(run, x)), group, name), bare_proj(one, bare_q(one, x))), 1e-13);
      EXPECT_TRUE(weights.get(norm).equal(whole.get(norm)));
      EXPECT_THROW(weights.get(wide), UsageError);
      EXPECT_THROW(other(run, x), UsageError);
    });
  }
}

std::string refusal(const Arrangement& a, const ModelFacts& facts) {
  try {
    check_layout(a, facts, kExtent);
  } catch (const UsageError& e) {
    return concat(e.what(), " | ", e.hint());
  }
  return "none";
}

TEST(Layouts, AreRefusedWithTheNamesOfThoseThatFit) {
  const ModelFacts apart = facts_of(false), all = facts_of(true);
  ModelFacts wan = all;
  wan.name = "Wan", wan.norms_across_heads = true;
  EXPECT_EQ(refusal({.layout = "dsp", .ranks = 9}, apart), "none");
  EXPECT_EQ(
      refusal({.layout = "dsp", .ranks = 2}, all),
      "dsp does not take this model: in a model every row attends to all others, so that no axis is free to be cut "
      "instead | take one of ulysses, ring, ulysses+ring, megatron");
  EXPECT_EQ(refusal({.layout = "megatron", .ranks = 2}, wan),
            "megatron does not take this model: Wan norms queries and keys over all heads at once, which no rank has | "
            "take one of ulysses, ring, ulysses+ring");
  EXPECT_EQ(refusal({.layout = "pipeline", .ranks = 2}, apart),
            "there is no layout \"pipeline\" | take one of dsp, dsp-stream, ulysses, ring, ulysses+ring, megatron");
  EXPECT_EQ(refusal({.layout = "ring", .ranks = 10}, apart),
            "10 ranks for 3 frames of 9 rows: most would own none | take at most 9 ranks a clip");
  EXPECT_EQ(refusal({.layout = "ulysses+ring", .ranks = 6, .heads_ranks = 4}, apart),
            "ulysses+ring: groups of 4 out of 6 ranks | their number must divide the ranks");
  EXPECT_EQ(refusal({.layout = "ring", .ranks = 2, .branches = 3}, apart),
            "a layout over 3 branches of 2 ranks | take one or two branches of at least one rank");
  EXPECT_EQ(
      refusal({.layout = "dsp-stream", .ranks = 2, .pieces = 2}, apart),
      "dsp-stream with exchanges in 2 pieces | dsp and ulysses exchange in one or more; a ring overlaps as it is");
  EXPECT_NE(refusal({.layout = "dsp", .ranks = 2, .pieces = 0}, apart), "none");
  EXPECT_EQ(refusal({.layout = "none", .ranks = 1}, apart), "none");
  const auto world = comm::single();
  EXPECT_THROW(make_layout({.layout = "ring", .ranks = 2}, apart, kExtent, *world), UsageError);
}

TEST(Layouts, ThatDoNotTakeAModelSayItInItsBlocksToo) {
  comm::run_ranks(2, [&](Communicator& world) {
    const MadeLayout made = make_layout({.layout = "dsp", .ranks = 2}, facts_of(false), kExtent, world);
    const Heads video = heads_of({2, kHeads, 9, 8}, 1);
    EXPECT_THROW(made.layout().attend_all(video, nullptr, kExtent), UsageError);
  });
}

TEST(Layouts, OverBranchesAreNeighboursOfTheirSequence) {
  comm::run_ranks(6, [&](Communicator& world) {
    const Arrangement a{.layout = "ring", .ranks = 3, .branches = 2};
    MadeLayout made = make_layout(a, facts_of(false), kExtent, world);
    EXPECT_EQ(made.sequence().size(), 3);
    EXPECT_EQ(made.sequence().rank(), world.rank() % 3);
    EXPECT_EQ(made.across().size(), 2);
    EXPECT_EQ(made.across().rank(), world.rank() / 3);
  });
}

}  // namespace
}  // namespace kinora::parallel
