// A subject's blocks through a ring of the room `offload`, every matrix of them, with freed slots poisoned; and sources
// that break the rules of the seam on purpose.
#pragma once

#include <vector>

#include "kinora/offload/ahead.h"
#include "kinora/offload/streamed.h"
#include "seams/subjects.h"

namespace kinora::seams {

struct Streamed {
  Streamed(const Subject& subject, std::vector<Tensor> values, int slots = 1,
           std::chrono::milliseconds patience = std::chrono::seconds(60))
      : store(std::move(values)),
        weights(*subject.params, offload::stream_with(*subject.params, sizeof(double), 0, slots, 1), store,
                {.poisons = true, .patience = patience}) {}
  std::map<int32_t, int> copies() const { return weights.counts().copies; }

  offload::TensorStore store;
  offload::StreamedWeights weights;
};

/// Linear layers get the weight itself, in its slot. Broken: autograd then holds the slot (honestly, so that the next
/// layer finds none), or memory that was given back while it holds it.
class AsTensors : public WeightSource {
 public:
  AsTensors(offload::StreamedWeights& inner, bool frees_by_scope) : inner_(inner), frees_by_scope_(frees_by_scope) {}
  Tensor get(const Param& param) override {
    const Tensor held = inner_.get(param);
    if (!frees_by_scope_ || !inner_.is_by_id(param.id)) return held;
    return at::from_blob(held.data_ptr(), held.sizes(), held.options());
  }

 private:
  offload::StreamedWeights& inner_;
  bool frees_by_scope_;
};

}  // namespace kinora::seams
