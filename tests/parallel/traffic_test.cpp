// What a whole denoising sends, with and without the reuse of attentions.
#include <gtest/gtest.h>

#include <cmath>

#include "kinora/cache/pab.h"
#include "kinora/parallel/guidance.h"
#include "parallel/models.h"

namespace kinora::seams {
namespace {

using parallel::Arrangement;
using parallel::Ledger;

/// Open-Sora 1.2's timesteps of 30 steps at 480p, as its bfloat16 model sees them.
constexpr double kOpenSora[] = {1000, 992, 984, 976, 968, 960, 952, 940, 932, 920, 908, 892, 880, 864, 848,
                                828,  808, 788, 764, 736, 708, 676, 636, 596, 548, 492, 426, 350, 258, 143};
constexpr int64_t kSteps = std::size(kOpenSora);

/// Ledgers of all ranks, each checked against the formulas.
std::vector<Ledger> denoised(const Subject& subject, const Arrangement& a, bool with_pab, double computed) {
  std::vector<Ledger> all(static_cast<size_t>(a.ranks));
  std::vector<Tensor> want;
  const auto run_with = [&](const Layout& layout) {
    cache::Pab pab(*cache::pab_defaults("STDiT3"));
    ResidentWeights weights = subject.resident();
    return denoise(subject, {.weights = &weights, .policy = with_pab ? &pab : nullptr, .layout = &layout}, kOpenSora);
  };
  want = run_with(whole_layout());
  on_ranks(subject, a, [&](Place& place) {
    EXPECT_LT(distance(run_with(place.layout), want), 1e-11);
    Ledger& ledger = all[static_cast<size_t>(place.rank)] = parallel::by_name(place.traffic);
    const auto attentions = static_cast<double>(kSteps * exchanging_attentions(subject.facts, a.home)) * computed;
    EXPECT_EQ(ledger, parallel::expected_bytes(a, subject.facts, shape_of(subject), place.rank,
                                               {.attentions = std::lround(attentions), .calls = kSteps}));
  });
  return all;
}

int64_t bytes_in_blocks(const std::vector<Ledger>& ledgers) {
  int64_t bytes = 0;
  for (const Ledger& ledger : ledgers) bytes += parallel::total_in_blocks(ledger).bytes;
  return bytes;
}

/// PAB246 computes 17 of 30 temporal attentions and 21 of 30 spatial ones (Zhao et al. 2024): the exchange belongs to
/// the temporal ones, and frames are cut.
TEST(Traffic, OfDspIsHalfOfUlyssesAndWithBroadcastSeventeenSixtieths) {
  at::NoGradGuard no_grad;
  at::set_num_threads(1);
  const Subject subject = make_even_stdit3();
  for (const int ranks : {2, 4}) {
    const Arrangement dsp{.layout = "dsp", .home = Axis::frames, .ranks = ranks},
        by_rows{.layout = "dsp", .home = Axis::rows, .ranks = ranks},
        ulysses{.layout = "ulysses", .home = Axis::frames, .ranks = ranks};
    const int64_t of_ulysses = bytes_in_blocks(denoised(subject, ulysses, false, 1));
    EXPECT_EQ(2 * bytes_in_blocks(denoised(subject, dsp, false, 1)), of_ulysses);
    EXPECT_EQ(60 * bytes_in_blocks(denoised(subject, dsp, true, 17.0 / 30)), 17 * of_ulysses);
    EXPECT_EQ(60 * bytes_in_blocks(denoised(subject, by_rows, true, 21.0 / 30)), 21 * of_ulysses);
    EXPECT_EQ(30 * bytes_in_blocks(denoised(subject, ulysses, true, 17.0 / 30)), 17 * of_ulysses);
  }
}

/// A branch alone is what the model gives for that row of its batch.
struct Branches : Denoiser {
  Branches(const Subject& s, const kinora::Run& r) : subject(s), run(r) {}
  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override {
    std::vector<Tensor> out;
    for (const Branch b : wanted) {
      kinora::Run r = run;
      r.step = step;
      r.rows = {&b, 1};
      out.push_back(subject.predict(r, latents, step.timestep));
    }
    return out;
  }
  const Subject& subject;
  kinora::Run run;
};

TEST(Guidance, TimesEveryLayoutIsOneProcessForwardAndBackward) {
  at::set_num_threads(1);
  const Step step{.timestep = 500};
  for (const Subject& subject : subjects()) {
    const auto latents = [&] { return subject.latents.narrow(0, 0, 1).clone().requires_grad_(true); };
    const auto loss = [](const Tensor& y) { return (y * y.detach().cos()).sum(); };
    ResidentWeights weights = subject.resident();
    Branches one(subject, {.weights = &weights});
    const Tensor whole = latents(), want = guided(one, whole, step, 5);
    loss(want).backward();
    for (Arrangement a : arrangements(subject, 2)) {
      a.branches = 2;
      const std::string what = name_of(subject, a);
      std::vector<Tensor> gradients(4);
      on_ranks(subject, a, [&](Place& place) {
        ResidentWeights own = subject.resident();
        Branches inner(subject, {.weights = &own, .layout = &place.layout});
        parallel::GuidanceParallel denoiser(inner, place.across);
        at::AutoGradMode grad(true);
        const Tensor mine = latents(), got = guided(denoiser, mine, step, 5);
        EXPECT_LT(distance(std::vector<Tensor>{got.detach()}, std::vector<Tensor>{want.detach()}), 1e-11) << what;
        Ledger ledger = parallel::by_name(place.traffic);
        EXPECT_EQ(ledger[parallel::GuidanceParallel::kGather], (comm::Sent{1, got.numel() * 8}));
        ledger.erase(parallel::GuidanceParallel::kGather);
        parallel::CallShape shape = shape_of(subject);
        shape.batch = 1;
        EXPECT_EQ(ledger,
                  parallel::expected_bytes(a, subject.facts, shape, place.rank % 2,
                                           {.attentions = exchanging_attentions(subject.facts, a.home), .calls = 1}));
        (loss(got) / 4).backward();
        gradients[static_cast<size_t>(place.rank)] = mine.grad();
      });
      const Tensor sum = gradients[0] + gradients[1] + gradients[2] + gradients[3];
      EXPECT_LT(distance(std::vector<Tensor>{sum}, std::vector<Tensor>{whole.grad()}), 1e-10) << what;
    }
  }
}

}  // namespace
}  // namespace kinora::seams
