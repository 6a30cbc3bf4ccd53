#include "kinora/offload/store.h"

#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>

#include <cstring>

namespace kinora::offload {

void copy_rows(const Tensor& from, int64_t first, const Tensor& place) {
  const at::NoGradGuard no_grad;
  const bool is_whole = from.sizes() == place.sizes();
  const Tensor rows = is_whole ? from : from.narrow(0, first, place.size(0));
  if (rows.is_cpu() && place.is_cpu() && rows.scalar_type() == place.scalar_type() && rows.is_contiguous()) {
    // Not copy_, which would start a team of threads beside the one that computes.
    std::memcpy(place.mutable_data_ptr(), rows.const_data_ptr(), place.nbytes());
    return;
  }
  place.copy_(rows, /*non_blocking=*/true);
}

Tensor empty_at_phase(at::IntArrayRef shape, const at::TensorOptions& options, uint64_t phase) {
  const int64_t numel = c10::multiply_integers(shape);
  const auto ahead = static_cast<int64_t>(phase / c10::elementSize(c10::typeMetaToScalarType(options.dtype())));
  return at::empty({ahead + numel}, options).narrow(0, ahead, numel).view(shape);
}

uint64_t TensorStore::copy(const Param& param, int64_t first, const Tensor& place) {
  copy_rows(tensors_.at(static_cast<size_t>(param.id)), first, place);
  return place.nbytes();
}

Tensor TensorStore::in_place(const Param& param, at::Device device) {
  const Tensor& t = tensors_.at(static_cast<size_t>(param.id));
  return t.device() == device ? t : Tensor();
}

uint64_t TensorStore::phase(const Param& param, int64_t first) const {
  const Tensor& t = tensors_.at(static_cast<size_t>(param.id));
  const auto row = first == 0 ? 0 : static_cast<uint64_t>(first * t.stride(0) * t.element_size());
  return (reinterpret_cast<uintptr_t>(t.const_data_ptr()) + row) % kPhaseBytes;
}

uint64_t SourceStore::copy(const Param& param, int64_t first, const Tensor& place) {
  copy_rows(source_.get(param), first, place);
  return place.nbytes();
}

uint64_t ThrottledStore::copy(const Param& param, int64_t first, const Tensor& place) {
  const std::lock_guard lock(mutex_);
  const auto began = Pace::Clock::now();
  const uint64_t bytes = inner_.copy(param, first, place);
  pace_.spend(static_cast<double>(bytes) / rate_, began);
  return bytes;
}

}  // namespace kinora::offload
