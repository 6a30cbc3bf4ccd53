// Ranks as threads of one process: the collectives of many processes in tests, without any.
#pragma once

#include <cstddef>
#include <functional>

#include "kinora/comm/exchange.h"

namespace kinora::comm {

struct ThreadOptions {
  std::chrono::milliseconds deadline{10000};  ///< for each wait
  size_t largest_message = size_t{1} << 30;   ///< bytes
  Check check = Check::always;
};

/// Runs `f` as each of `ranks` ranks, each on a thread of its own; gradients are recorded there as they are here. Throws
/// what the first rank threw that failed by itself: the PeerError and DeadlineError of those that waited for it are its
/// consequence. UsageError for fewer than 1 or more than 64 ranks.
void run_ranks(int ranks, const std::function<void(Communicator&)>& f, const ThreadOptions& options = {});

}  // namespace kinora::comm
