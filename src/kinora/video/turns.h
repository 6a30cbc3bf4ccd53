// What ranks do in turn, around the denoiser: texts, given clips and pieces of a clip are each the work of one rank, and
// what they give is everybody's.
#pragma once

#include <ATen/ATen.h>

#include <c10/util/FunctionRef.h>

#include <string_view>
#include <vector>

#include "kinora/comm/communicator.h"

namespace kinora::video {

/// `count` tensors of which rank i % N makes the i-th, all ranks at a time; -> all of them, on every rank. Only the rank
/// that makes one needs to know its shape. All are on `device`. Collective.
std::vector<at::Tensor> make_in_turns(comm::Communicator& ranks, int64_t count, at::Device device,
                                      std::string_view name, c10::function_ref<at::Tensor(int64_t)> make);

}  // namespace kinora::video
