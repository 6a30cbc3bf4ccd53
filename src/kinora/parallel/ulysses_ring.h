// Ulysses (Jacobs et al. 2023, arXiv 2309.14509): around attention along the axis that is cut, queries, keys and values
// are switched from rows to heads, and the result back. Ring attention (Liu et al. 2023): keys and values pass around.
// And their product (Fang & Zhao 2024, arXiv 2405.07719): neighbouring ranks exchange heads, and of such groups those
// with the same heads form rings. For every model.
#pragma once

#include "kinora/parallel/home.h"

namespace kinora::parallel {

class UlyssesRing final : public Layout {
 public:
  static constexpr const char* kToHeads = "ulysses to heads";
  static constexpr const char* kToRows = "ulysses to rows";
  static constexpr const char* kText = "ulysses text";
  static constexpr const char* kRing = "ring";

  /// group: all ranks, of which `heads` are neighbours and `ring` those with the same place among neighbours: rank =
  /// place in ring * heads.size() + place in heads. Either may be of one rank. pieces: how many groups of heads are
  /// exchanged and computed one after the other, at least a head for each rank in each.
  UlyssesRing(Communicator& group, Communicator& heads, Communicator& ring, Axis home, int pieces = 1);
  Tensor local(const Tensor& whole, Axis axis, int dim) const override { return home_.local(whole, axis, dim); }
  Tensor whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const override {
    return home_.whole(local, axis, dim, extent);
  }
  Tensor attend(const Heads& heads, Axis along, const Extent& extent) const override;
  Streams attend_all(const Heads& video, const Heads* text, const Extent& extent) const override;
  Tensor sum(const Tensor& partial) const override { return home_.sum(partial); }

 private:
  /// From rows to heads, where dimension `heads` counts heads and `rows` this rank's part of the home axis.
  Switch to_heads(int64_t num_heads, int64_t extent, int64_t heads, int64_t rows) const;
  /// How many of n rows each place in the ring has.
  std::vector<int64_t> ring_shares(int64_t n) const;
  /// f(heads that this rank has of heads begin .. begin + count, begin, count), of each piece, brought back to its rows.
  Tensor exchanged(const Heads& all, int64_t heads, int64_t rows, int64_t extent,
                   c10::function_ref<Tensor(const Heads&, int64_t begin, int64_t count)> f) const;
  /// Of heads that are the same on every rank, those of begin .. begin + count that are this rank's.
  Heads own_heads(const Heads& text, int64_t begin, int64_t count) const;

  Home home_;
  Communicator* heads_;
  Communicator* ring_;
  int pieces_;
};

}  // namespace kinora::parallel
