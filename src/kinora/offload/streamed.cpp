#include "kinora/offload/streamed.h"

#include "kinora/base/error.h"
#include "kinora/ops/linear.h"
#include "kinora/tensor/allocator.h"

namespace kinora::offload {
namespace {

bool is_streamed(const StreamPlan& plan, const Param& param) {
  const int block = plan.blocks.of.at(static_cast<size_t>(param.id));
  return plan.slots > 0 && may_stream(param, plan.blocks, plan.least_elements) &&
         !plan.resident.at(static_cast<size_t>(block));
}

std::vector<Tensor> read_resident(const Params& params, const StreamPlan& plan, WeightStore& store,
                                  const RingOptions& options) {
  std::vector<Tensor> tensors(static_cast<size_t>(params.size()));
  for (const Param& p : params) {
    if (!is_streamed(plan, p))
      tensors[static_cast<size_t>(p.id)] = resident_tensor(p, store, options.device, options.pins);
  }
  return tensors;
}

}  // namespace

Tensor resident_tensor(const Param& param, WeightStore& store, at::Device device, bool pins) {
  Tensor t = store.in_place(param, device);
  if (t.defined()) return t;
  const CountAs counted(MemoryKind::weights);
  const auto where = at::TensorOptions().dtype(store.dtype()).device(device).pinned_memory(pins);
  t = empty_at_phase(param.shape, where, store.phase(param, 0));
  store.copy(param, 0, t);
  return t;
}

std::vector<RingPart> ring_parts(const Params& params, const StreamPlan& plan) {
  std::vector<int> group_of(plan.resident.size());
  int groups = 0;
  for (size_t b = 0; b < plan.resident.size(); ++b) group_of[b] = plan.resident[b] ? -1 : groups++;
  std::vector<RingPart> parts;
  for (const Param& p : params) {
    const int block = plan.blocks.of[static_cast<size_t>(p.id)];
    parts.push_back({.param = p, .group = is_streamed(plan, p) ? group_of[static_cast<size_t>(block)] : -1});
  }
  return parts;
}

StreamedWeights::StreamedWeights(const Params& params, const StreamPlan& plan, WeightStore& store,
                                 RingOptions options) {
  options.slots = std::max(plan.slots, 1);
  engine_ = std::shared_ptr<Engine>(new Engine{.params = &params,
                                               .plan = plan,
                                               .resident = read_resident(params, plan, store, options),
                                               .ring = Ring(ring_parts(params, plan), store, options)});
}

std::unique_ptr<StreamedWeights> StreamedWeights::beside() {
  return std::unique_ptr<StreamedWeights>(new StreamedWeights(engine_, engine_->ring.add_reader()));
}

StreamedWeights::~StreamedWeights() { engine_->ring.remove_reader(reader_); }

Tensor StreamedWeights::get(const Param& param) {
  const Tensor& resident = engine_->resident.at(static_cast<size_t>(param.id));
  return resident.defined() ? resident : engine_->ring.lease(param.id, reader_);
}

void StreamedWeights::skip(std::vector<bool> now, std::vector<bool> then) {
  engine_->ring.skip(std::move(now), std::move(then), reader_);
}

Tensor StreamedWeights::linear_now(const Tensor& x, int32_t id, const std::optional<Tensor>& bias) {
  return ops::linear(x, engine_->ring.lease(id, reader_), bias);
}

}  // namespace kinora::offload
