#include "kinora/parallel/ulysses_ring.h"

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"
#include "kinora/parallel/ring.h"

namespace kinora::parallel {

UlyssesRing::UlyssesRing(Communicator& group, Communicator& heads, Communicator& ring, Axis home)
    : home_(group, home), heads_(&heads), ring_(&ring) {
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

Heads UlyssesRing::switched(const Heads& all, const Switch& which) const {
  const std::vector<Tensor> t = switch_dims({all.q, all.k, all.v}, which, *heads_, kToHeads);
  return {t[0], t[1], t[2]};
}

Heads UlyssesRing::own_heads(const Heads& text) const {
  const std::vector<int64_t> counts = comm::even_counts(text.q.size(1), heads_->size());
  const auto place = static_cast<size_t>(heads_->rank());
  const auto own = [&](const Tensor& t) { return t.narrow(1, comm::offsets(counts)[place], counts[place]); };
  return {own(text.q), own(text.k), own(text.v)};
}

Tensor UlyssesRing::attend(const Heads& heads, Axis along, const Extent& extent) const {
  if (along != home_.axis()) return whole_layout().attend(heads, along, extent);
  const Switch there = to_heads(heads.q.size(2), extent.of(along), 2, 3);
  const Heads mine = switched(heads, there);
  Tensor out;
  if (ring_->size() == 1) {
    out = whole_layout().attend(mine, along, extent);
  } else {
    const auto sets = [](const Tensor& t) { return t.flatten(0, 1); };
    const Heads flat{sets(mine.q), sets(mine.k), sets(mine.v)};
    std::vector<int64_t> counts = ring_shares(extent.of(along));
    out = ring_attention(flat, nullptr, counts, *ring_, kRing)[0].unflatten(0, {mine.q.size(0), mine.q.size(1)});
  }
  return switch_dims({out}, there.back(memory_order(heads.q)), *heads_, kToRows)[0];
}

Streams UlyssesRing::attend_all(const Heads& video, const Heads* text, const Extent& extent) const {
  const Axis home = home_.axis();
  const int64_t rows = dim_of(home) + 1;  // in [B, A, T, S, D]
  const Switch there = to_heads(video.q.size(1), extent.of(home), 1, rows);
  const int64_t here = home_.shares(extent.of(home))[static_cast<size_t>(home_.group().rank())];
  const auto of_ring = ring_shares(extent.of(home));
  const auto with = [&](int64_t n) -> std::vector<int64_t> {
    return home == Axis::frames ? std::vector<int64_t>{n, extent.rows} : std::vector<int64_t>{extent.frames, n};
  };
  const auto grid = [&](const Tensor& t) { return t.unflatten(2, with(here)); };
  const auto flat = [](const Tensor& t) { return t.flatten(2, 3); };
  const Heads in_grid = switched({grid(video.q), grid(video.k), grid(video.v)}, there);
  const Heads mine{flat(in_grid.q), flat(in_grid.k), flat(in_grid.v)};
  Heads words;
  if (text) words = own_heads(*text);
  std::vector<int64_t> counts = of_ring;
  for (int64_t& n : counts) n *= extent.of(other(home));
  Streams out = ring_->size() == 1 ? whole_layout().attend_all(mine, text ? &words : nullptr, extent)
                                   : ring_attention(mine, text ? &words : nullptr, counts, *ring_, kRing);
  const Tensor back = out[0].unflatten(2, with(of_ring[static_cast<size_t>(ring_->rank())]));
  out[0] = flat(switch_dims({back}, there.back(memory_order(grid(video.q))), *heads_, kToRows)[0]);
  if (text) out[1] = gather(out[1], 1, comm::even_counts(text->q.size(1), heads_->size()), *heads_, kText);
  return out;
}

}  // namespace kinora::parallel
