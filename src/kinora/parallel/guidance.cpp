#include "kinora/parallel/guidance.h"

#include "kinora/base/error.h"

namespace kinora::parallel {

GuidanceParallel::GuidanceParallel(Denoiser& inner, Communicator& across) : inner_(inner), across_(across) {
  if (across.size() <= 2) return;
  throw UsageError(concat("guidance parallel over ", across.size(), " groups of ranks"),
                   "guidance has two branches: take two groups, and a sequence layout within each");
}

std::vector<Tensor> GuidanceParallel::predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) {
  if (across_.size() == 1 || wanted.size() == 1) return inner_.predict(latents, step, wanted);
  KINORA_ASSERT(wanted.size() == 2);
  const std::vector<Tensor> mine =
      inner_.predict(latents, step, wanted.subspan(static_cast<size_t>(across_.rank()), 1));
  const std::vector<int64_t> counts{1, 1};
  return gather(mine[0].unsqueeze(0), 0, counts, across_, kGather).unbind(0);
}

}  // namespace kinora::parallel
