#include "kinora/diffusion/branches_apart.h"

namespace kinora {

std::vector<Tensor> BranchesApart::predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) {
  std::vector<Tensor> out;
  for (size_t i = 0; i < wanted.size(); ++i) out.push_back(inner_.predict(latents, step, wanted.subspan(i, 1))[0]);
  return out;
}

}  // namespace kinora
