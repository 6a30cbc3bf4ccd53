// What is chosen, and the published figures that the formulas come to.
#include "kinora/parallel/plan.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/parallel/bytes.h"

namespace kinora::parallel {
namespace {

/// Open-Sora 1.2 at 480p, 2 s: VideoSys' setting for its table of bytes.
Request open_sora(int ranks) {
  return {.facts = {.name = "STDiT3", .width = 1152, .heads = 16, .along_frames = 28, .along_rows = 28, .outputs = 32},
          .call = {.batch = 2, .extent = {.frames = 15, .rows = 1590}, .element_bytes = 2},
          .ranks = ranks,
          .branches = 1,
          .link = {.bytes_per_second = 50e9, .latency_seconds = 10e-6},
          .seconds_of_one = 0.8};
}

Request cogvideox(int ranks) {
  return {.facts = {.name = "CogVideoX", .width = 3072, .heads = 48, .along_all = 42, .outputs = 64},
          .call = {.batch = 2, .extent = {.frames = 13, .rows = 1350}, .text_rows = 226, .element_bytes = 2},
          .ranks = ranks,
          .branches = 1,
          .link = {.bytes_per_second = 50e9, .latency_seconds = 10e-6},
          .seconds_of_one = 4};
}

/// Bytes of the attentions of one call of all ranks, by the even formulas of bytes.h.
double all_ranks(const Request& r, const Arrangement& a) {
  double bytes = 0;
  for (int rank = 0; rank < a.ranks; ++rank) {
    const Performed performed{.attentions = exchanging_attentions(r.facts, a.home)};
    bytes += static_cast<double>(total(expected_bytes(a, r.facts, r.call, rank, performed)).bytes);
  }
  return bytes;
}

TEST(Bytes, AreThoseOfTheClosedFormulasWhereRanksDivideAll) {
  Request r = open_sora(8);
  r.call.extent = {.frames = 16, .rows = 1600};
  const double m = 2.0 * 16 * 1600 * 1152 * 2, n = 8, pairs = 28;
  const auto of = [&](const char* layout, int heads = 1) {
    return all_ranks(r, {.layout = layout, .ranks = 8, .heads_ranks = heads}) / (n * pairs);
  };
  EXPECT_DOUBLE_EQ(of("dsp"), 2 * m * (n - 1) / (n * n));
  EXPECT_DOUBLE_EQ(of("dsp-stream"), of("dsp"));
  EXPECT_DOUBLE_EQ(of("ulysses"), 2 * of("dsp"));
  EXPECT_DOUBLE_EQ(of("ring"), 2 * m * (n - 1) / n);
  EXPECT_DOUBLE_EQ(of("megatron"), 2 * m * (n - 1) / n);
  EXPECT_DOUBLE_EQ(of("ulysses+ring", 4), 4 * m * 3 / (4 * n) + 2 * m / n);
}

/// 23.08 GB with DSP, 46.16 with Ulysses, 184.63 with Megatron's: 30 steps on 8 ranks, frames and rows not divided,
/// without the factor (N - 1) / N.
TEST(Bytes, ComeToThePublishedFiguresOfDsp) {
  const Request r = open_sora(8);
  const double gigabytes = 30 / 1e9 * 8 / 7;
  const auto of = [&](const char* layout) {
    return all_ranks(r, {.layout = layout, .home = Axis::rows, .ranks = 8}) / 8 * gigabytes;
  };
  EXPECT_NEAR(of("dsp"), 23.08, 0.02);
  EXPECT_NEAR(of("ulysses"), 46.16, 0.01);
  EXPECT_NEAR(of("megatron"), 184.63, 0.02);
}

/// The last gather comes after the head, which is narrower than the model.
TEST(Bytes, OfDspAreHalfOfUlyssesInBlocksAndLittleMoreInAll) {
  Request r = open_sora(8);
  r.call.extent = {.frames = 16, .rows = 1600};
  const Performed call{.attentions = 28, .calls = 1};
  const auto of = [&](const char* layout, const Performed& performed) {
    return expected_bytes({.layout = layout, .ranks = 8}, r.facts, r.call, 3, performed);
  };
  EXPECT_EQ(2 * total_in_blocks(of("dsp", call)).bytes, total_in_blocks(of("ulysses", call)).bytes);
  const auto share = [&](const Performed& performed) {
    return static_cast<double>(total(of("dsp", performed)).bytes) /
           static_cast<double>(total(of("ulysses", call)).bytes);
  };
  EXPECT_LE(share(call), 0.51);
  EXPECT_GT(share(call), 0.5);
}

TEST(Plan, TakesDspWhereAnAxisIsFreeAndUlyssesWhereNot) {
  EXPECT_EQ(choose_layout(open_sora(8)).best.arrangement.layout, "dsp");
  EXPECT_EQ(choose_layout(cogvideox(8)).best.arrangement.layout, "ulysses");
  EXPECT_EQ(choose_layout(cogvideox(1)).reason, "one rank has all rows");
}

TEST(Plan, PutsTheExchangeWhereACacheLeavesLeastToCompute) {
  Request r = open_sora(5);
  r.call.extent = {.frames = 15, .rows = 1590};
  r.computed = {.along_frames = 17.0 / 30, .along_rows = 21.0 / 30};  // PAB246
  EXPECT_EQ(choose_layout(r).best.arrangement.home, Axis::frames);
  r.computed = {.along_frames = 21.0 / 30, .along_rows = 17.0 / 30};
  EXPECT_EQ(choose_layout(r).best.arrangement.home, Axis::rows);
}

TEST(Plan, CutsRowsWhereThereAreFewerFramesThanRanks) {
  const Candidate best = choose_layout(open_sora(24)).best;
  EXPECT_EQ(best.arrangement.home, Axis::rows);
  EXPECT_LT(best.seconds, 0.8 / 16);
}

TEST(Plan, PutsGuidanceBranchesApartWhereThatSendsLess) {
  Request r = cogvideox(8);
  r.branches = 2;
  const Candidate best = choose_layout(r).best;
  EXPECT_EQ(best.arrangement.branches, 2);
  EXPECT_EQ(best.arrangement.ranks, 4);
  for (const Candidate& c : layout_candidates(r)) EXPECT_GE(c.seconds, best.seconds);
}

TEST(Plan, ExplainsItselfInASentence) {
  const Choice choice = choose_layout(open_sora(8));
  EXPECT_EQ(
      choice.reason,
      "dsp over 8 ranks, cut along rows: each rank sends at most 695.4 MB a model call and owns 198 to 199 of 1590 "
      "rows of a frame; next would be ulysses over 8 ranks, cut along rows with 1350.2 MB");
}

TEST(Plan, ExchangesInPiecesWhereItIsAskedTo) {
  const Choice whole = choose_layout(open_sora(2), "dsp"), two = choose_layout(open_sora(2), "dsp/2");
  EXPECT_EQ(name_of(two.best.arrangement), "dsp/2");
  EXPECT_EQ(two.best.bytes, whole.best.bytes);
  EXPECT_EQ(two.best.exchanges, 2 * whole.best.exchanges - 1) << "the last gather is whole";
  EXPECT_NE(two.reason.find("exchanged in 2 pieces"), std::string::npos) << two.reason;
  EXPECT_EQ(choose_layout(cogvideox(8), "ulysses/3").best.arrangement.pieces, 3);
  for (const char* name : {"ring/2", "dsp/", "dsp/2x", "dsp/0", "dsp/1", "auto/2", "dsp-stream/2", "/2"})
    EXPECT_THROW(choose_layout(open_sora(8), name), UsageError) << name;
}

/// Of 15 frames over 8 ranks, some get one: no piece could give each of them two.
TEST(Plan, SaysWhereAnExchangeIsTooShortForPieces) {
  const Choice whole = choose_layout(open_sora(8), "dsp"), asked = choose_layout(open_sora(8), "dsp/2");
  ASSERT_EQ(asked.best.arrangement.home, Axis::rows);
  EXPECT_EQ(asked.best.exchanges, whole.best.exchanges);
  EXPECT_NE(asked.reason.find("exchanged whole"), std::string::npos) << asked.reason;
}

TEST(Plan, RefusesMoreRanksThanRowsAndLinksWithoutASpeed) {
  EXPECT_THROW(choose_layout(open_sora(1591)), UsageError);
  Request r = open_sora(8);
  r.link = {};
  EXPECT_THROW(choose_layout(r), UsageError);
}

}  // namespace
}  // namespace kinora::parallel
