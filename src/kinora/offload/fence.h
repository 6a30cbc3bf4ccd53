// A point in the work of a device's streams that another stream can wait for, without the host waiting. A CPU has no
// streams: what was called is done. No CUDA header: c10's events reach whatever device LibTorch has.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>

#include <memory>
#include <optional>

namespace kinora::offload {

class Fence {
 public:
  /// Behind what the device's current stream of this thread was asked for so far.
  void record(c10::Device device);
  /// What the current stream of this thread is asked for from here on begins behind the recorded point.
  void block(c10::Device device) const;

 private:
  std::shared_ptr<c10::Event> event_;  // shared: several wait for one
};

/// While it lives, this thread asks a stream of its own of the device, from LibTorch's pool; nothing on a CPU.
class OwnStream {
 public:
  explicit OwnStream(c10::Device device);

 private:
  std::optional<c10::StreamGuard> guard_;
};

}  // namespace kinora::offload
