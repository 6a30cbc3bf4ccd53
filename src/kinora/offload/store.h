// Where weights wait until a device wants them: tensors in the host's memory, a file, quantised rows. A store copies; who
// keeps what where is decided above it (streamed.h, split.h), and stores wrap one another (ThrottledStore, StagedStore).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "kinora/nn/weights.h"
#include "kinora/offload/lanes.h"

namespace kinora::offload {

/// What vector loads are wide.
inline constexpr uint64_t kPhaseBytes = 64;

class WeightStore {
 public:
  virtual ~WeightStore() = default;
  /// Of the run: what `copy` is given places of.
  virtual at::ScalarType dtype() const = 0;
  /// Fills `place` (contiguous, on the device that computes, dtype()) with the parameter's rows (dimension 0) from
  /// `first` on; the whole of it where place has its shape. Returns the bytes that crossed the link for it, fewer than
  /// place holds where the store is quantised. Called from the thread of a ring, under its copy stream on a device that
  /// has streams; may return before such a copy is done. Thread-safe.
  virtual uint64_t copy(const Param& param, int64_t first, const Tensor& place) = 0;
  /// The parameter where it lies, if that is on `device` in the run's dtype already and may be used from there; undefined:
  /// what stays on the device is a copy.
  virtual Tensor in_place(const Param& param, at::Device device) {
    static_cast<void>(param), static_cast<void>(device);
    return {};
  }
  /// By how many bytes the parameter's row `first` lies behind a multiple of 64 where it is used in place. Matrix products
  /// of some libraries differ in their last bits with it, so copies are laid out alike.
  virtual uint64_t phase(const Param& param, int64_t first) const {
    static_cast<void>(param), static_cast<void>(first);
    return 0;
  }
  /// The next parameters that will be copied, in order: a store on a disk reads ahead.
  virtual void expect(std::span<const int32_t> order) { static_cast<void>(order); }
};

/// Rows of `from` into `place`, converted where their types differ: a plain copy of bytes on a CPU, else by the device's
/// current stream, which returns before it is done where `from` is pinned.
void copy_rows(const Tensor& from, int64_t first, const Tensor& place);

/// Not filled, `phase` bytes behind a multiple of 64.
Tensor empty_at_phase(at::IntArrayRef shape, const at::TensorOptions& options, uint64_t phase);

/// Tensors in the host's memory, by id; pinned by the caller where a device with streams is to read them.
class TensorStore final : public WeightStore {
 public:
  /// The run's dtype is the first tensor's.
  explicit TensorStore(std::vector<Tensor> by_id) : tensors_(std::move(by_id)) {}
  at::ScalarType dtype() const override { return tensors_.at(0).scalar_type(); }
  uint64_t copy(const Param& param, int64_t first, const Tensor& place) override;
  Tensor in_place(const Param& param, at::Device device) override;
  uint64_t phase(const Param& param, int64_t first) const override;

 private:
  std::vector<Tensor> tensors_;
};

/// Weights of another source, on their way through its slots: a ring in the host's memory that is filled from a disk
/// feeds one on the device.
class SourceStore final : public WeightStore {
 public:
  /// `origin`: the store that `source` is filled from.
  SourceStore(WeightSource& source, const WeightStore& origin) : source_(source), origin_(origin) {}
  at::ScalarType dtype() const override { return origin_.dtype(); }
  uint64_t phase(const Param& param, int64_t first) const override { return origin_.phase(param, first); }
  uint64_t copy(const Param& param, int64_t first, const Tensor& place) override;

 private:
  WeightSource& source_;
  const WeightStore& origin_;
};

/// A store behind a link of a given rate: stands for a bus, or for a disk, where there is none.
class ThrottledStore final : public WeightStore {
 public:
  ThrottledStore(WeightStore& inner, double bytes_per_second) : inner_(inner), rate_(bytes_per_second) {}
  at::ScalarType dtype() const override { return inner_.dtype(); }
  uint64_t copy(const Param& param, int64_t first, const Tensor& place) override;
  Tensor in_place(const Param& param, at::Device device) override { return inner_.in_place(param, device); }
  uint64_t phase(const Param& param, int64_t first) const override { return inner_.phase(param, first); }
  void expect(std::span<const int32_t> order) override { inner_.expect(order); }

 private:
  WeightStore& inner_;
  double rate_;
  std::mutex mutex_;  // one thing at a time crosses a link
  Pace pace_;
};

}  // namespace kinora::offload
