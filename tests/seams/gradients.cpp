#include <ATen/core/grad_mode.h>

#include <limits>

#include "seams/on_each_model.h"

namespace kinora::seams {

std::vector<Tensor> leaves_of(const Subject& subject) {
  std::vector<Tensor> leaves;
  for (const Tensor& t : subject.values) leaves.push_back(t.clone().requires_grad_(true));
  return leaves;
}

Gradients gradients(const Subject& subject, const Run& run, const std::vector<Tensor>& leaves, double share,
                    const std::map<int32_t, Tensor>* streamed) {
  at::AutoGradMode grad(true);
  const Tensor x = subject.latents.clone().requires_grad_(true);
  const Tensor y = subject.predict(run, x, 500);
  ((y * y.detach().cos()).sum() * share).backward();
  Gradients g{.of_latents = x.grad(), .of_parameters = {}};
  for (size_t id = 0; id < leaves.size(); ++id) {
    const bool is_streamed = streamed && streamed->count(static_cast<int32_t>(id));
    g.of_parameters.push_back(is_streamed ? streamed->at(static_cast<int32_t>(id)) : leaves[id].grad());
  }
  return g;
}

Gradients resident_gradients(const Subject& subject) {
  ResidentWeights weights(leaves_of(subject));
  return gradients(subject, {.weights = &weights}, weights.tensors());
}

Gradients sum(std::span<const Gradients> of_ranks) {
  Gradients all = of_ranks[0];
  const auto add = [](Tensor& to, const Tensor& from) {
    if (from.defined()) to = to.defined() ? to + from : from;
  };
  for (const Gradients& g : of_ranks.subspan(1)) {
    add(all.of_latents, g.of_latents);
    for (size_t i = 0; i < all.of_parameters.size(); ++i) add(all.of_parameters[i], g.of_parameters[i]);
  }
  return all;
}

double distance(const Gradients& a, const Gradients& b) {
  double worst = distance(std::vector<Tensor>{a.of_latents}, std::vector<Tensor>{b.of_latents});
  for (size_t i = 0; i < a.of_parameters.size(); ++i) {
    const Tensor &left = a.of_parameters[i], &right = b.of_parameters[i];
    if (left.defined() != right.defined()) return std::numeric_limits<double>::infinity();
    if (left.defined()) worst = std::max(worst, distance(std::vector<Tensor>{left}, std::vector<Tensor>{right}));
  }
  return worst;
}

}  // namespace kinora::seams
