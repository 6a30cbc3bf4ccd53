// Structural hashes: equal for computations that differ only in where they stand and in the values of their constants,
// so that the blocks of a model are planned once.
#pragma once

#include <cstdint>

#include "kinora/graph/ir.h"

namespace kinora::graph {

inline uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15ULL + (hash << 6) + (hash >> 2);
  hash *= 0xff51afd7ed558ccdULL;
  return hash ^ (hash >> 32);
}

/// Of each node alone: operator, arguments that are no tensors, shapes, strides and dtypes of its values.
std::vector<uint64_t> node_hashes(const Graph& graph);

/// Hashes of the ranges [begin, end) for one begin and rising ends: what is read from where, and what is read behind.
class RangeHash {
 public:
  RangeHash(const Graph& graph, const std::vector<uint64_t>& nodes, int begin, int most);
  /// Takes in the next node; the hash of everything so far.
  uint64_t next();

 private:
  int local(int id);
  const Graph& graph_;
  const std::vector<uint64_t>& nodes_;
  int begin_, next_, most_;
  uint64_t hash_ = 0;
  std::vector<int> seen_;  ///< values in the order in which they appear
};

/// Of a whole graph, with its inputs and outputs.
uint64_t hash_of(const Graph& graph);

}  // namespace kinora::graph
