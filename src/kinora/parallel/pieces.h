// Exchanges that go in pieces, so that one piece is computed with while the next is under way: around an attention that
// sees the pieces one by one.
#pragma once

#include <c10/util/FunctionRef.h>

#include "kinora/parallel/exchange.h"

namespace kinora::parallel {

/// What is switched at a time, and how.
struct Piece {
  std::vector<Tensor> tensors;
  Switch there;
};

/// n entries that are dealt out over ranks, in at most `pieces` runs that are dealt out each: every rank gets as many as
/// without pieces, and at least `least` of each run where there are several.
std::vector<int64_t> piece_counts(int64_t n, int ranks, int pieces, int64_t least);

/// What f(i, piece i) gives where the piece has been switched to, switched back, dense in `order` (empty: its own). Two
/// all_to_alls a piece, under two names. While f works, the next piece is on its way here and the results before it on
/// their way back; the backward takes them one after the other.
std::vector<Tensor> switch_around(std::vector<Piece> pieces, Communicator& group, const std::string& there,
                                  const std::string& back, const std::vector<int64_t>& order,
                                  c10::function_ref<Tensor(size_t, std::vector<Tensor>)> f);

/// Parts side by side along `dim`, dense in `order`; one part as it is.
Tensor join_in_order(const std::vector<Tensor>& parts, int64_t dim, const std::vector<int64_t>& order);

}  // namespace kinora::parallel
