// Ring attention (Liu et al. 2023), not causal: queries stay, keys and values pass from rank to rank, and what each part
// gives is merged by its log-sum-exp. Each hop is under way while the part that has come is computed with.
// G sets of rows, A heads, R this rank's video rows, L text rows, D width of a head.
#pragma once

#include "kinora/nn/layout.h"
#include "kinora/parallel/exchange.h"

namespace kinora::parallel {

/// Every row attends to the video rows of all ranks and, where given, to the text. video [G, A, R, D], R =
/// counts[rank]; text [G, A, L, D], the same on every rank -> one [G, A, rows, D] a stream; text rows come out with the
/// same bits on every rank, for their parts are merged in the order of ranks.
/// Sends, as `name`, N - 1 messages: keys and values of all ranks but the next. Backward, as `name` and " backward",
/// the same once more, and as `name` and " gradients" the gradients of all other ranks' keys and values, in float32
/// (float64 in float64): they start at the first rank that has one, and end at home.
Streams ring_attention(const Heads& video, const Heads* text, at::IntArrayRef counts, Communicator& group,
                       const std::string& name);

}  // namespace kinora::parallel
