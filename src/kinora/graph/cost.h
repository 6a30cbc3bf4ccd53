// How long nodes take on a machine: calls, floating-point operations, bytes. Rough, but alike for what is compared:
// many short calls against few long ones.
#pragma once

#include "kinora/graph/region.h"

namespace kinora::graph {

/// Rates of one thread pool. Defaults: two cores of a server processor, float32.
struct Machine {
  double seconds_per_call = 4e-6;
  double product_flops = 1.5e11;  ///< per second, of linear layers and matrix products
  double attention_flops = 1.2e11;
  double convolution_flops = 1.2e11;
  double bytes_per_second = 1.2e10;  ///< read or written
  bool operator==(const Machine&) const = default;
};

/// Measures this machine in about a second, with the threads that LibTorch has now.
Machine measure_machine(at::ScalarType dtype = at::kFloat);

/// A node on whole tensors.
double seconds(const Graph& graph, const Node& node, const Machine& machine);
/// A step of a piece.
double seconds(const Graph& graph, const Step& step, const Machine& machine);
/// Bytes of a part of a value.
int64_t bytes_of(const Value& value, const Part& part);
/// Whether LibTorch's fused attention takes a kernel of its own for many queries and keys: in bfloat16 where the
/// processor multiplies tiles (AMX).
bool lays_out_tiles(const Graph& graph, const Node& attention);
inline constexpr int64_t kQueriesForTiles = 64;  ///< and keys, at the least
/// What an operator allocates and frees while it runs, on the CPU: oneDNN's convolutions lay out anew what they read,
/// behind a copy where it is no block of memory; an activation behind a group norm has a tensor of its own, upsampling
/// goes through channels-last, fused attention holds scores of some queries.
int64_t scratch_bytes(const Graph& graph, int node);
/// has: what a piece holds of the first input; whole: all of it is there.
int64_t scratch_bytes(const Graph& graph, const Step& step, const Part& has);

}  // namespace kinora::graph
