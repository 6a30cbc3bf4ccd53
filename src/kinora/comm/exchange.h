// The collectives, made of messages between pairs of ranks. Sums are exchanges of slices that each rank adds up in the
// order of ranks: the result has the same bits whatever arrives first, and on every rank.
//
// A message's tag holds the call's sequence and a hash of operation, name, dtype and counts. Ranks that disagree
// therefore never take each other's bytes: they wait, and find out why on the board (one host) or by comparing calls
// before the exchange (Check).
#pragma once

#include <chrono>
#include <memory>

#include "kinora/comm/communicator.h"
#include "kinora/comm/transport.h"

namespace kinora::comm {

/// When ranks send each other what they are about to do: before every exchange, or before the first three of a name
/// and after each change of its shape or dtype.
enum class Check { always, first };

struct ExchangeOptions {
  std::chrono::milliseconds deadline{60000};  ///< for each wait
  Check check = Check::always;
};

/// The group of all ranks. Throws UsageError for a deadline of less than a millisecond.
std::unique_ptr<Communicator> exchange(std::shared_ptr<Transport> transport, const ExchangeOptions& options);

/// Adds up one part a rank, in order, into `out`; bfloat16 and float16 in float32. parts[r] may be overwritten where
/// r != `own`, and parts[own] may be `out` itself.
void add_in_order(const Tensor& out, std::vector<Tensor> parts, int own);

}  // namespace kinora::comm
