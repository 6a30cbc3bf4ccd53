#include "kinora/parallel/ulysses_ring.h"

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"
#include "kinora/parallel/pieces.h"
#include "kinora/parallel/ring.h"

namespace kinora::parallel {

UlyssesRing::UlyssesRing(Communicator& group, Communicator& heads, Communicator& ring, Axis home, int pieces)
    : home_(group, home), heads_(&heads), ring_(&ring), pieces_(pieces) {
  KINORA_ASSERT(group.size() == heads.size() * ring.size());
  KINORA_ASSERT(group.rank() == ring.rank() * heads.size() + heads.rank());
}

Switch UlyssesRing::to_heads(int64_t num_heads, int64_t extent, int64_t heads, int64_t rows) const {
  const std::vector<int64_t> shares = home_.shares(extent);
  const auto first = shares.begin() + ring_->rank() * heads_->size();
  return {.cut = heads,
          .join = rows,
          .cut_counts = comm::even_counts(num_heads, heads_->size()),
          .join_counts = {first, first + heads_->size()}};
}

std::vector<int64_t> UlyssesRing::ring_shares(int64_t n) const {
  const std::vector<int64_t> shares = home_.shares(n);
  std::vector<int64_t> sums(static_cast<size_t>(ring_->size()), 0);
  for (size_t r = 0; r < shares.size(); ++r) sums[r / static_cast<size_t>(heads_->size())] += shares[r];
  return sums;
}

Tensor UlyssesRing::exchanged(const Heads& all, int64_t heads, int64_t rows, int64_t extent,
                              c10::function_ref<Tensor(const Heads&, int64_t begin, int64_t count)> f) const {
  const std::vector<int64_t> counts = piece_counts(all.q.size(heads), heads_->size(), pieces_, 1);
  const std::vector<int64_t> begins = comm::offsets(counts);
  std::vector<Piece> pieces;
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto some = [&](const Tensor& t) { return t.narrow(heads, begins[i], counts[i]); };
    pieces.push_back({{some(all.q), some(all.k), some(all.v)}, to_heads(counts[i], extent, heads, rows)});
  }
  const auto there = [&](size_t i, std::vector<Tensor> t) { return f({t[0], t[1], t[2]}, begins[i], counts[i]); };
  const std::vector<int64_t> order = memory_order(all.q);
  return join_in_order(switch_around(std::move(pieces), *heads_, kToHeads, kToRows, order, there), heads, order);
}

Heads UlyssesRing::own_heads(const Heads& text, int64_t begin, int64_t count) const {
  const std::vector<int64_t> counts = comm::even_counts(count, heads_->size());
  const auto place = static_cast<size_t>(heads_->rank());
  const auto own = [&](const Tensor& t) { return t.narrow(1, begin + comm::offsets(counts)[place], counts[place]); };
  return {own(text.q), own(text.k), own(text.v)};
}

Tensor UlyssesRing::attend(const Heads& heads, Axis along, const Extent& extent) const {
  if (along != home_.axis()) return whole_layout().attend(heads, along, extent);
  const auto attended = [&](const Heads& mine, int64_t, int64_t) {
    if (ring_->size() == 1) return whole_layout().attend(mine, along, extent);
    const auto sets = [](const Tensor& t) { return t.flatten(0, 1); };
    const Heads flat{sets(mine.q), sets(mine.k), sets(mine.v)};
    std::vector<int64_t> counts = ring_shares(extent.of(along));
    return ring_attention(flat, nullptr, counts, *ring_, kRing)[0].unflatten(0, {mine.q.size(0), mine.q.size(1)});
  };
  return exchanged(heads, 2, 3, extent.of(along), attended);
}

Streams UlyssesRing::attend_all(const Heads& video, const Heads* text, const Extent& extent) const {
  const Axis home = home_.axis();
  const int64_t here = home_.shares(extent.of(home))[static_cast<size_t>(home_.group().rank())];
  const auto of_ring = ring_shares(extent.of(home));
  const auto with = [&](int64_t n) -> std::vector<int64_t> {
    return home == Axis::frames ? std::vector<int64_t>{n, extent.rows} : std::vector<int64_t>{extent.frames, n};
  };
  const auto grid = [&](const Tensor& t) { return t.unflatten(2, with(here)); };  // [B, A, T, S, D]
  const auto flat = [](const Tensor& t) { return t.flatten(2, 3); };
  std::vector<int64_t> counts = of_ring;
  for (int64_t& n : counts) n *= extent.of(other(home));
  std::vector<Tensor> texts;
  std::vector<int64_t> text_heads;
  const auto attended = [&](const Heads& piece, int64_t begin, int64_t count) {
    const Heads mine{flat(piece.q), flat(piece.k), flat(piece.v)};
    Heads words;
    if (text) words = own_heads(*text, begin, count);
    const Streams out = ring_->size() == 1 ? whole_layout().attend_all(mine, text ? &words : nullptr, extent)
                                           : ring_attention(mine, text ? &words : nullptr, counts, *ring_, kRing);
    if (text) texts.push_back(out[1]), text_heads.push_back(count);
    return out[0].unflatten(2, with(of_ring[static_cast<size_t>(ring_->rank())]));
  };
  const Heads in_grid{grid(video.q), grid(video.k), grid(video.v)};
  Streams out{flat(exchanged(in_grid, 1, dim_of(home) + 1, extent.of(home), attended))};
  if (!text) return out;
  for (size_t i = 0; i < texts.size(); ++i)
    texts[i] = gather(texts[i], 1, comm::even_counts(text_heads[i], heads_->size()), *heads_, kText);
  out.push_back(texts.size() == 1 ? texts[0] : at::cat(texts, 1));
  return out;
}

}  // namespace kinora::parallel
