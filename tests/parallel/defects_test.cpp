// Defects that trainers over many ranks have had, where nothing else would see them. docs/parallel.md lists all, each with
// its test.
#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/tensor/allocator.h"
#include "parallel/models.h"

namespace kinora::seams {
namespace {

using parallel::Arrangement;

Tensor loss_of(const Tensor& y) { return (y * y.detach().cos()).sum(); }

/// Each rank's own gradients of its share, those of all ranks added up, or the two norms that they have.
struct Norms {
  double own = 0, summed = 0;
};

Norms norms_on(const Subject& subject, const Arrangement& a, Place& place, comm::Communicator& group) {
  ResidentWeights own(leaves_of(subject));
  const Gradients g = gradients(subject, {.weights = &own, .layout = &place.layout}, own.tensors(), 1.0 / a.ranks);
  double alone = 0, together = 0;
  for (size_t i = 0; i < g.of_parameters.size(); ++i) {
    const Tensor mine = g.of_parameters[i].defined() ? g.of_parameters[i] : at::zeros_like(subject.values[i]);
    alone += mine.square().sum().item<double>();
    together += parallel::sum(mine, group, "gradients").square().sum().item<double>();
  }
  return {std::sqrt(alone), std::sqrt(together)};
}

/// A clip's scale that differs from rank to rank lets copies of one weight drift apart.
TEST(Defects, EveryRankClipsByTheNormOfOneProcess) {
  at::set_num_threads(1);
  const Subject subject = make_stdit3();
  double want = 0;
  for (const Tensor& g : resident_gradients(subject).of_parameters) {
    if (g.defined()) want += g.square().sum().item<double>();
  }
  want = std::sqrt(want);
  for (const Arrangement& a : arrangements(subject, 4)) {  // by frames, of which there are three: one rank owns none
    std::vector<Norms> norms(static_cast<size_t>(a.ranks));
    on_ranks(subject, a, [&](Place& place) {
      norms[static_cast<size_t>(place.rank)] = norms_on(subject, a, place, place.sequence);
    });
    for (const Norms& n : norms) {
      EXPECT_EQ(n.summed, norms[0].summed) << name_of(subject, a) << ": in every bit";
      EXPECT_NEAR(n.summed, want, 1e-10 * want) << name_of(subject, a);
      EXPECT_GT(std::abs(n.own - want), 1e-3 * want) << "what a rank has alone is not it";
    }
  }
}

/// Bytes that a training step of one process, or of all ranks together, keeps between forward and backward.
int64_t kept_bytes(const Ledger& ledger, const Subject& subject, const Layout& layout,
                   const std::function<void()>& meet) {
  ResidentWeights weights(leaves_of(subject));
  const Tensor latents = subject.latents.clone().requires_grad_(true);
  meet();
  const auto before = static_cast<int64_t>(ledger.current_total());
  meet();
  at::AutoGradMode grad(true);
  const Tensor y = subject.predict({.weights = &weights, .layout = &layout}, latents, 500);
  meet();
  const auto kept = static_cast<int64_t>(ledger.current_total()) - before;
  meet();
  return kept;
}

/// A layout that keeps the rows of all for the backward has cut them for nothing. Megatron's does.
TEST(Defects, WhatIsKeptForTheBackwardIsCutWithTheRows) {
  at::set_num_threads(1);
  static auto* const ledger = new Ledger;  // tensors may be freed after main
  install_counting_allocator(*ledger);
  const Subject subject = make_larger_stdit3();
  const auto [frames, rows] = subject.extent;
  const int64_t row_bytes = subject.facts.width * 8, whole = subject.latents.size(0) * frames * rows * row_bytes;
  const int64_t one = kept_bytes(*ledger, subject, whole_layout(), [] {});
  for (const Arrangement& a : arrangements(subject, 4)) {
    int64_t all = 0;
    on_ranks(subject, a, [&](Place& place) {
      const int64_t kept = kept_bytes(*ledger, subject, place.layout, [&] { place.sequence.barrier("all are here"); });
      if (place.rank == 0) all = kept;
    });
    // Of each attention that exchanges; and once, rows are embedded before they are cut.
    const int64_t gathered = (exchanging_attentions(subject.facts, a.home) + 1) * (a.ranks - 1) * whole;
    if (a.layout == "megatron") {
      EXPECT_GT(all - one, gathered) << name_of(subject, a) << ", one process " << one;
    } else {
      EXPECT_LT(all - one, gathered) << name_of(subject, a) << ", one process " << one;
    }
  }
}

/// Layouts and exchanges remember nothing of a call that the next could find changed.
TEST(Defects, AnEvaluationBetweenForwardAndBackwardLeavesTheGradients) {
  at::set_num_threads(1);
  for (const Subject& subject : subjects()) {
    const Tensor want = resident_gradients(subject).of_latents;
    for (const Arrangement& a : arrangements(subject, 2)) {
      std::vector<Tensor> of_rank(static_cast<size_t>(a.ranks));
      on_ranks(subject, a, [&](Place& place) {
        ResidentWeights own(leaves_of(subject));
        const kinora::Run run{.weights = &own, .layout = &place.layout};
        const Tensor latents = subject.latents.clone().requires_grad_(true);
        at::AutoGradMode grad(true);
        const Tensor loss = loss_of(subject.predict(run, latents, 500)) / a.ranks;
        {
          at::NoGradGuard evaluating;
          subject.predict(run, subject.latents.narrow(0, 0, 1) * 2, 300);
        }
        loss.backward();
        of_rank[static_cast<size_t>(place.rank)] = latents.grad();
      });
      const std::vector<Tensor> got{of_rank[0] + of_rank[1]};
      EXPECT_LT(distance(got, std::vector<Tensor>{want}), 1e-10) << name_of(subject, a);
    }
  }
}

}  // namespace
}  // namespace kinora::seams
