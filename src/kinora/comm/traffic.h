// What a rank sends, by name and operation, to be held against the formulas of papers.
//
// Bytes are those that leave this rank for others; its own part is not sent. all_to_all: the parts of the others.
// all_gather: its part, once for each other rank. reduce_scatter: all but its own slice. all_reduce: a reduce_scatter
// and an all_gather of even slices, together 2 (N - 1) / N of the buffer when N divides it. broadcast: the root sends
// the buffer to each other rank. send: the buffer. A barrier and a split are calls without bytes.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kinora/comm/communicator.h"

namespace kinora::comm {

struct Sent {
  int64_t calls = 0, bytes = 0;
  friend bool operator==(const Sent&, const Sent&) = default;
};

/// One rank's ledger. Not thread-safe: each rank has its own.
class Traffic {
 public:
  void add(std::string_view name, std::string_view operation, int64_t bytes);
  /// By name and operation.
  const std::map<std::pair<std::string, std::string>, Sent>& rows() const { return rows_; }
  /// Nothing where this was never called.
  Sent of(std::string_view name, std::string_view operation) const;
  Sent total() const;
  /// Seconds that this rank spent in waits and barriers.
  double waited_s() const { return waited_s_; }
  void add_wait(double seconds) { waited_s_ += seconds; }
  void clear() { rows_.clear(), waited_s_ = 0; }

 private:
  double waited_s_ = 0;
  std::map<std::pair<std::string, std::string>, Sent> rows_;
};

/// Passes everything on to `inner` and counts it; the groups that are split off count in the same ledger. Both outlive
/// it and what is split off.
class Counted final : public Communicator {
 public:
  Counted(Communicator& inner, Traffic& traffic) : inner_(&inner), traffic_(&traffic) {}
  Counted(std::unique_ptr<Communicator> inner, Traffic& traffic)
      : owned_(std::move(inner)), inner_(owned_.get()), traffic_(&traffic) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::unique_ptr<Work> all_to_all(Tensor out, const Tensor& in, Counts from, Counts to,
                                   std::string_view name) override;
  std::unique_ptr<Work> all_gather(Tensor out, const Tensor& in, Counts counts, std::string_view name) override;
  std::unique_ptr<Work> reduce_scatter(Tensor out, const Tensor& in, Counts counts, std::string_view name) override;
  std::unique_ptr<Work> all_reduce(Tensor values, std::string_view name) override;
  std::unique_ptr<Work> broadcast(Tensor values, int root, std::string_view name) override;
  std::unique_ptr<Work> send(const Tensor& values, int to, std::string_view name) override;
  std::unique_ptr<Work> recv(Tensor values, int from, std::string_view name) override;
  void barrier(std::string_view name) override;
  void rendezvous(std::string_view name) override;
  std::unique_ptr<Communicator> split(int colour, int key) override;

 private:
  int64_t others() const { return inner_->size() - 1; }
  int64_t own(Counts counts) const { return counts[static_cast<size_t>(inner_->rank())]; }

  std::unique_ptr<Communicator> owned_;
  Communicator* inner_;
  Traffic* traffic_;
};

}  // namespace kinora::comm
