#include "kinora/offload/fence.h"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace kinora::offload {
namespace {

c10::impl::VirtualGuardImpl guard_of(c10::Device device) { return c10::impl::VirtualGuardImpl(device.type()); }

}  // namespace

void Fence::record(c10::Device device) {
  if (device.is_cpu()) return;
  event_ = std::make_shared<c10::Event>(device.type());
  event_->record(guard_of(device).getStream(device));
}

void Fence::block(c10::Device device) const {
  if (event_) event_->block(guard_of(device).getStream(device));
}

OwnStream::OwnStream(c10::Device device) {
  if (!device.is_cpu()) guard_.emplace(guard_of(device).getStreamFromGlobalPool(device));
}

}  // namespace kinora::offload
