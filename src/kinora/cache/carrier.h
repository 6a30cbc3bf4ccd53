// Copies between a device's memory and the host's that run beside the computation, on a stream of their own. Where the
// device is the CPU they are plain copies.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <optional>

namespace kinora::cache {

class Carrier {
 public:
  explicit Carrier(c10::Device device);
  /// A copy in pinned memory of what the computation has written by now; `t` may be freed at once.
  at::Tensor to_host(const at::Tensor& t) const;
  /// A copy on the device, behind all copies that were begun before.
  at::Tensor to_device(const at::Tensor& t) const;
  /// To be called before each value is carried: waits until all that was under way two values ago is done, so that a device that
  /// is behind the program does not hold values whose memory the program has freed. Never more than kInFlight of them.
  void pace();
  static constexpr int64_t kInFlight = 4;
  /// Where the copies stand, and the computation made to wait until they were there before it reads `t`.
  using Mark = std::optional<c10::Event>;
  Mark mark() const;
  void join(Mark& mark, const at::Tensor& t) const;

 private:
  struct Pace {
    Mark computed, carried;
  };
  c10::Stream computation() const;
  c10::Device device_;
  std::optional<c10::Stream> stream_;  // none on the CPU
  Pace last_, before_;
};

}  // namespace kinora::cache
