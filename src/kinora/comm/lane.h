// How bytes get from device to device: NCCL. The collectives of devices (device_group.h) are made of this alone.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kinora/comm/call.h"
#include "kinora/comm/communicator.h"

namespace kinora::comm {

/// Bytes for, or of, another rank of the group: a flat buffer with something in it.
struct Part {
  Tensor values;
  int peer = 0;
};

/// One rank's end. Devices work through what they are asked for in order and by themselves; a lane is an order of its
/// own beside the one in which the rank computes (a stream). Used by one thread at a time.
class Lane {
 public:
  virtual ~Lane() = default;
  virtual at::Device device() const = 0;

  /// Calls `f` now: the operators and exchanges that it asks for begin when the device has done what it was asked for
  /// before, and what is asked for behind this call does not wait for them, unless through Work::wait. `buffers` are held
  /// until then. Throws as check; `call` is told when something goes wrong.
  virtual std::unique_ptr<Work> run(const Call& call, std::vector<Tensor> buffers, const std::function<void()>& f) = 0;
  /// Within `f`: all of these at once. Parts of a pair of ranks arrive in the order in which they were sent.
  virtual void exchange(std::span<const Part> sent, std::span<const Part> received) = 0;

  /// Returns when the device has done all that it was asked for. Throws as check.
  virtual void wait_for_device() = 0;
  /// Throws what an exchange failed with since: PeerError, or DeadlineError where this rank's device waited too long.
  virtual void check() = 0;

  /// A lane of the same device for the ranks of `group`. Collective over them.
  virtual std::unique_ptr<Lane> of_group(Communicator& group) const = 0;
};

}  // namespace kinora::comm
