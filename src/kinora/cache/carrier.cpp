#include "kinora/cache/carrier.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace kinora::cache {

Carrier::Carrier(c10::Device device) : device_(device) {
  if (!device.is_cpu()) stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

c10::Stream Carrier::computation() const { return c10::impl::VirtualGuardImpl(device_.type()).getStream(device_); }

void Carrier::pace() {
  if (!stream_) return;
  if (before_.computed) before_.computed->synchronize();
  if (before_.carried) before_.carried->synchronize();
  before_ = std::move(last_);
  last_ = {Mark(std::in_place, device_.type()), mark()};
  last_.computed->record(computation());
}

at::Tensor Carrier::to_host(const at::Tensor& t) const {
  if (!stream_) return t.clone();
  at::Tensor host = at::empty_like(t, t.options().device(at::kCPU).pinned_memory(true));
  c10::Event written(device_.type());
  written.record(computation());
  written.block(*stream_);
  const c10::StreamGuard beside(*stream_);
  host.copy_(t, /*non_blocking=*/true);
  t.record_stream(*stream_);  // its memory is not used again before the copy has been made
  return host;
}

at::Tensor Carrier::to_device(const at::Tensor& t) const {
  if (!stream_) return t.clone();
  const c10::StreamGuard beside(*stream_);
  return at::empty_like(t, t.options().device(device_).pinned_memory(false)).copy_(t, /*non_blocking=*/true);
}

Carrier::Mark Carrier::mark() const {
  if (!stream_) return std::nullopt;
  Mark mark(std::in_place, device_.type());
  mark->record(*stream_);
  return mark;
}

void Carrier::join(Mark& mark, const at::Tensor& t) const {
  if (!mark) return;
  mark->block(computation());
  t.record_stream(computation());  // it was allocated for the other stream
}

}  // namespace kinora::cache
