// Guidance branches on ranks of their own.
#include "kinora/parallel/guidance.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/comm/threads.h"
#include "kinora/comm/traffic.h"

namespace kinora::parallel {
namespace {

/// Predicts what tells the branch, and counts what it was asked.
struct Model : Denoiser {
  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override {
    std::vector<Tensor> out;
    for (const Branch b : wanted) {
      asked.push_back(b);
      out.push_back(latents * (b == Branch::cond ? 2 : -1) + step.timestep);
    }
    return out;
  }
  std::vector<Branch> asked;
};

TEST(GuidanceParallel, GivesEveryRankBothPredictionsAndComputesOne) {
  const Tensor latents = at::rand({1, 4, 3, 5, 7});
  const Step step{.timestep = 3};
  Model one;
  const Tensor want = guided(one, latents, step, 7.5);
  comm::run_ranks(2, [&](Communicator& world) {
    comm::Traffic traffic;
    comm::Counted across(world, traffic);
    Model model;
    GuidanceParallel denoiser(model, across);
    EXPECT_TRUE(guided(denoiser, latents, step, 7.5).equal(want));
    EXPECT_EQ(model.asked, std::vector<Branch>{world.rank() == 0 ? Branch::cond : Branch::uncond});
    EXPECT_EQ(traffic.total(), (comm::Sent{1, latents.numel() * 4}));
  });
}

TEST(GuidanceParallel, ComputesASingleBranchEverywhere) {
  const Tensor latents = at::rand({1, 4, 3, 5, 7});
  comm::run_ranks(2, [&](Communicator& across) {
    Model model;
    GuidanceParallel denoiser(model, across);
    const std::vector<Branch> wanted{Branch::cond};
    EXPECT_TRUE(denoiser.predict(latents, {}, wanted)[0].equal(latents * 2));
    EXPECT_EQ(model.asked, wanted);
  });
}

TEST(GuidanceParallel, HasTheGradientsOfOneRank) {
  const Tensor latents = at::rand({1, 2, 3, 5, 7}, at::kDouble);
  const auto leaf = [&] { return latents.clone().requires_grad_(true); };
  const Tensor whole = leaf();
  Model one;
  guided(one, whole, {}, 7.5).square().sum().backward();
  comm::run_ranks(2, [&](Communicator& across) {
    at::AutoGradMode grad(true);
    Model model;
    GuidanceParallel denoiser(model, across);
    const Tensor mine = leaf();
    (guided(denoiser, mine, {}, 7.5).square().sum() / 2).backward();
    EXPECT_TRUE(at::allclose(sum(mine.grad(), across, "gradients"), whole.grad(), 1e-12, 1e-12));
  });
}

TEST(GuidanceParallel, RefusesMoreRanksThanBranches) {
  comm::run_ranks(3, [](Communicator& across) {
    Model model;
    EXPECT_THROW(GuidanceParallel(model, across), UsageError);
  });
}

}  // namespace
}  // namespace kinora::parallel
