// Ranks with a device each: tensors of the device go from device to device (lane.h), everything else as between
// processes (`control`: MPI).
//
// A collective is asked for and returns; the device does it in time. `wait` makes the device's current stream wait and
// not this thread, so what went wrong is thrown by a later call: any call, also of tensors of the CPU. barrier waits
// until the device has done everything. Ranks compare what they are about to do through `control`, as exchange.h does.
//
// Messages start when a rank has asked for as many sends as receives, or waits for one of them, or for a collective:
// those that start together proceed together, whatever their order. Others of the rank proceed in their order.
#pragma once

#include "kinora/comm/exchange.h"
#include "kinora/comm/lane.h"

namespace kinora::comm {

/// `control` is the same group of ranks and outlives it. Collective.
std::unique_ptr<Communicator> device_group(Communicator& control, std::unique_ptr<Lane> lane, Check check);

}  // namespace kinora::comm
