// Weights that are not all on the device: some blocks stay there, the others pass through a ring of slots, copied ahead
// of their use (ring.h). Linear layers go by id, so that autograd and graphs hold no slot.
#pragma once

#include <memory>

#include "kinora/nn/linear_by_id.h"
#include "kinora/offload/blocks.h"
#include "kinora/offload/ring.h"

namespace kinora::offload {

/// What passes through the ring by that plan, by parameter: streamed blocks are its groups, in their order.
std::vector<RingPart> ring_parts(const Params& params, const StreamPlan& plan);

/// A whole parameter on the device: where the store has it, or a copy; `pins` as in RingOptions.
Tensor resident_tensor(const Param& param, WeightStore& store, at::Device device, bool pins = false);

class StreamedWeights final : public SourceById {
 public:
  /// Reads what stays, now. `options.slots` comes from the plan. The store must outlive it. Throws what the store does.
  StreamedWeights(const Params& params, const StreamPlan& plan, WeightStore& store, RingOptions options = {});
  /// Another user of the same slots: a model that runs beside (on its own thread) and shares every transfer. They stay
  /// within a ring of each other, as Ring::add_reader says, until it is gone.
  std::unique_ptr<StreamedWeights> beside();
  ~StreamedWeights() override;

  /// A streamed weight keeps its slot as long as the tensor lives; `linear` does not need it for longer than a product.
  Tensor get(const Param& param) override;
  /// As Ring::skip, by parameter.
  void skip(std::vector<bool> now, std::vector<bool> then);

  RingCounts counts() const { return engine_->ring.counts(); }
  const StreamPlan& plan() const { return engine_->plan; }

  bool is_by_id(int32_t id) const override { return !engine_->resident.at(static_cast<size_t>(id)).defined(); }
  Tensor linear_now(const Tensor& x, int32_t id, const std::optional<Tensor>& bias) override;
  Tensor weight_now(int32_t id) override { return engine_->ring.lease(id, reader_); }
  int64_t out_features(int32_t id) const override { return (*engine_->params)[id].shape[0]; }

 private:
  struct Engine {
    const Params* params;
    StreamPlan plan;
    std::vector<Tensor> resident;  // by id; undefined: passes through the ring
    Ring ring;
  };
  StreamedWeights(std::shared_ptr<Engine> engine, int reader) : engine_(std::move(engine)), reader_(reader) {}

  std::shared_ptr<Engine> engine_;
  int reader_ = 0;
};

}  // namespace kinora::offload
