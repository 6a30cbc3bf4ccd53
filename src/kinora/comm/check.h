// What every communicator checks before it starts: a wrong buffer is the caller's mistake and no other rank's.
#pragma once

#include "kinora/comm/communicator.h"

namespace kinora::comm {

/// All throw UsageError that begins with `operation` and `name`.
void check_all_to_all(const Communicator& group, const Tensor& out, const Tensor& in, Counts from, Counts to,
                      std::string_view name);
void check_all_gather(const Communicator& group, const Tensor& out, const Tensor& in, Counts counts,
                      std::string_view name);
void check_reduce_scatter(const Communicator& group, const Tensor& out, const Tensor& in, Counts counts,
                          std::string_view name);
void check_all_reduce(const Tensor& values, std::string_view name);
void check_broadcast(const Communicator& group, const Tensor& values, int root, std::string_view name);
void check_peer(const Communicator& group, const Tensor& values, int peer, std::string_view name);

}  // namespace kinora::comm
