// How ranks talk. A communicator is one rank's end of a group: a process of its own (single.h), threads of one process
// (threads.h: tests), MPI processes (mpi.h). The collectives are those of MPI and NCCL, under their names.
//
// Every rank of a group calls the same collectives in the same order. Buffers are contiguous and on the communicator's
// device; they belong to the collective until `wait` has returned, and the communicator outlives that. Counts are
// numbers of elements and may be zero; sums run in the order of ranks, so that a result does not depend on timing, and
// bfloat16 and float16 are added up in float32. `name` says which exchange of a model this is: it is counted under that
// name (Traffic), compared between ranks, and told when something goes wrong.
//
// Throws PeerError where ranks disagree (operation, shape, dtype) or one has gone, DeadlineError where one does not
// come in time, both naming the operation and the ranks that are known to lack; UsageError for buffers that do not fit.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace kinora::comm {

using at::Tensor;
using Counts = std::span<const int64_t>;  ///< elements for, or of, each rank of the group

/// An exchange under way.
class Work {
 public:
  virtual ~Work() = default;  ///< waits, and swallows what `wait` would throw
  virtual void wait() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// out [sum of from]: what each rank sent here, in the order of ranks; in [sum of to]: a part for each rank.
  virtual std::unique_ptr<Work> all_to_all(Tensor out, const Tensor& in, Counts from, Counts to,
                                           std::string_view name) = 0;
  /// out [sum of counts]: `in` [counts[rank]] of every rank, in order.
  virtual std::unique_ptr<Work> all_gather(Tensor out, const Tensor& in, Counts counts, std::string_view name) = 0;
  /// out [counts[rank]]: this rank's part of the sum of every rank's `in` [sum of counts].
  virtual std::unique_ptr<Work> reduce_scatter(Tensor out, const Tensor& in, Counts counts, std::string_view name) = 0;
  /// The sum over ranks, in place.
  virtual std::unique_ptr<Work> all_reduce(Tensor values, std::string_view name) = 0;
  /// `root`'s values, in place.
  virtual std::unique_ptr<Work> broadcast(Tensor values, int root, std::string_view name) = 0;
  virtual std::unique_ptr<Work> send(const Tensor& values, int to, std::string_view name) = 0;
  virtual std::unique_ptr<Work> recv(Tensor values, int from, std::string_view name) = 0;
  virtual void barrier(std::string_view name) = 0;
  /// A barrier without a deadline, for ranks that work apart for as long as that takes; one that has gone is noticed.
  virtual void rendezvous(std::string_view name) = 0;

  /// The ranks that gave the same colour, as a group of their own, ordered by key and then by rank. Collective.
  virtual std::unique_ptr<Communicator> split(int colour, int key) = 0;
};

}  // namespace kinora::comm
