// N ranks are one: every model under every layout that takes it, outputs and gradients, and what was sent.
#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "parallel/models.h"
#include "seams/ranks.h"

namespace kinora::seams {
namespace {

using parallel::Arrangement;

class Identity : public testing::TestWithParam<int> {
 protected:
  Identity() { at::set_num_threads(1); }
};
INSTANTIATE_TEST_SUITE_P(Ranks, Identity, testing::ValuesIn(kRanks),
                         [](const auto& n) { return concat("Over", n.param); });

/// Models this small have products of so few rows that another number of them takes another kernel (bits_test.cpp has
/// larger ones); values are near 1.
TEST_P(Identity, OfOutputsInFloat64AndWhatTheySend) {
  at::NoGradGuard no_grad;
  for (const Subject& subject : subjects()) {
    ResidentWeights weights = subject.resident();
    const Tensor want = subject.predict({.weights = &weights}, subject.latents, 500);
    for (const Arrangement& a : arrangements(subject, GetParam())) {
      const std::string what = name_of(subject, a);
      on_ranks(subject, a, [&](Place& place) {
        ResidentWeights own = subject.resident();
        const kinora::Run run{.weights = &own, .layout = &place.layout};
        const Tensor got = subject.predict(run, subject.latents, 500);
        EXPECT_LT(distance(std::vector<Tensor>{got}, std::vector<Tensor>{want}), 1e-12) << what;
        EXPECT_EQ(parallel::by_name(place.traffic),
                  parallel::expected_bytes(a, subject.facts, shape_of(subject), place.rank,
                                           {.attentions = exchanging_attentions(subject.facts, a.home), .calls = 1}))
            << what;
      });
    }
  }
}

TEST_P(Identity, OfGradientsInFloat64AndWhatTheySend) {
  for (const Subject& subject : subjects()) {
    const Gradients want = resident_gradients(subject);
    for (const Arrangement& a : arrangements(subject, GetParam())) {
      const std::string what = name_of(subject, a);
      std::vector<Gradients> of_rank(static_cast<size_t>(a.ranks));
      on_ranks(subject, a, [&](Place& place) {
        ResidentWeights own(leaves_of(subject));
        const kinora::Run run{.weights = &own, .layout = &place.layout};
        of_rank[static_cast<size_t>(place.rank)] = gradients(subject, run, own.tensors(), 1.0 / a.ranks);
        EXPECT_EQ(parallel::by_name(place.traffic),
                  parallel::expected_bytes(
                      a, subject.facts, shape_of(subject), place.rank,
                      {.attentions = exchanging_attentions(subject.facts, a.home), .calls = 1, .is_training = true}))
            << what;
      });
      EXPECT_LT(distance(sum(of_rank), want), 1e-10) << what;
    }
  }
}

/// Broken on purpose: the last gather's part alone is right where an exchange in a block is left out.
TEST(Broken, LayoutThatSkipsItsExchangeIsSeenInValuesAndBytes) {
  at::NoGradGuard no_grad;
  struct Skips : DecidesAlone {
    using DecidesAlone::DecidesAlone;
    Streams around(const kinora::Run& run, const Bracket&, Streams streams,
                   c10::function_ref<Streams(const kinora::Run&, Streams)> f) const override {
      return f(run, std::move(streams));
    }
  };
  const Subject subject = make_stdit3();
  ResidentWeights weights = subject.resident();
  const Tensor want = subject.predict({.weights = &weights}, subject.latents, 500);
  const Arrangement a{.layout = "dsp", .home = Axis::rows, .ranks = 2};
  on_ranks(subject, a, [&](Place& place) {
    const Skips layout(place.layout);
    ResidentWeights own = subject.resident();
    const kinora::Run run{.weights = &own, .layout = &layout};
    const std::vector<Tensor> got{subject.predict(run, subject.latents, 500)};
    EXPECT_GT(distance(got, std::vector<Tensor>{want}), kVisible);
    EXPECT_NE(parallel::by_name(place.traffic),
              parallel::expected_bytes(a, subject.facts, shape_of(subject), place.rank,
                                       {.attentions = exchanging_attentions(subject.facts, a.home), .calls = 1}));
  });
}

}  // namespace
}  // namespace kinora::seams
