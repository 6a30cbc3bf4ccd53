// What a layout sends, by closed formulas: the same numbers, to the byte, that comm's ledger counts.
//
// With M = B T S C e the bytes of the rows, N ranks that divide everything, and "sends" what leaves one rank, an
// attention along the home axis sends forward
//   dsp            2 M (N-1) / N^2             two switches
//   ulysses        4 M (N-1) / N^2             q, k, v, and the result
//   ring           2 M (N-1) / N               k and v, N - 1 hops
//   megatron       2 M (N-1) / N               a gather and a scatter: all ranks together 2 M (N-1)
//   ulysses+ring   4 M (U-1) / (U N) + 2 M (R-1) / N,   N = U R
// and backward the same, ring with its gradients in float32 (float64 in float64) beside. In P pieces dsp and ulysses send
// as much in P times the calls. Where N does not divide, each rank's own share counts. Text rows that attend with the
// video cost ulysses a gather, and megatron a sum; nothing goes back through that of the last attention of a call, whose
// text nobody reads.
#pragma once

#include <map>
#include <string>

#include "kinora/comm/traffic.h"
#include "kinora/parallel/facts.h"

namespace kinora::parallel {

/// By the name of the exchange, whatever the operation; a message counts where it is sent.
using Ledger = std::map<std::string, comm::Sent>;

/// What is to be counted: attentions along the home axis (or along all rows) that were computed, and model calls.
struct Performed {
  int64_t attentions = 0;
  int64_t calls = 0;
  bool is_training = false;  ///< with the backward of each
};

/// What rank `rank` of the arrangement's sequence sends. Sums of cache decisions are not in it.
Ledger expected_bytes(const Arrangement& arrangement, const ModelFacts& facts, const CallShape& call, int rank,
                      const Performed& performed);

/// What a ledger has counted, by name.
Ledger by_name(const comm::Traffic& traffic);

/// Of all exchanges, and of those in blocks alone.
comm::Sent total(const Ledger& ledger);
comm::Sent total_in_blocks(const Ledger& ledger);

/// Into how many pieces each switch goes: as many as the arrangement asks for, or fewer for few rows or heads (pieces.h).
int64_t pieces_of_switch(const Arrangement& arrangement, const ModelFacts& facts, const Extent& extent);

/// Attentions of one call that exchange under this home axis.
int64_t exchanging_attentions(const ModelFacts& facts, Axis home);

}  // namespace kinora::parallel
