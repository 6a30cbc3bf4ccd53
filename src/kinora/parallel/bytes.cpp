#include "kinora/parallel/bytes.h"

#include <algorithm>
#include <utility>

#include "kinora/comm/counts.h"
#include "kinora/parallel/dsp.h"
#include "kinora/parallel/megatron.h"
#include "kinora/parallel/pieces.h"
#include "kinora/parallel/ulysses_ring.h"

namespace kinora::parallel {
namespace {

/// n things dealt out over ranks, seen from one of them.
struct Dealt {
  std::vector<int64_t> counts;
  int64_t all = 0, own = 0;
  Dealt(std::vector<int64_t> parts, int rank)
      : counts(std::move(parts)), all(comm::sum(counts)), own(counts[static_cast<size_t>(rank)]) {}
  Dealt(int64_t n, int ranks, int rank) : Dealt(comm::even_counts(n, ranks), rank) {}
  int64_t ranks() const { return static_cast<int64_t>(counts.size()); }
  int64_t others() const { return all - own; }
};

/// Adds up what one rank sends; an exchange over a group of one is none.
class Count {
 public:
  Count(Ledger& ledger, const Performed& performed, int64_t element_bytes)
      : ledger_(ledger), performed_(performed), element_bytes_(element_bytes) {}

  /// A switch that cuts `cut` and joins `join`; each pair of theirs is `size` numbers. In pieces it sends the same.
  void switched(const std::string& name, const Dealt& cut, const Dealt& join, int64_t size, int64_t pieces) {
    add(name, join.own * cut.others() * size, cut.own * join.others() * size, pieces);
  }
  /// What the last attention of a call gives is of no use: nothing goes back through it.
  void text_gathered(const std::string& name, const Dealt& dealt, int64_t size, int64_t pieces) {
    put(name, pieces, dealt.own * (dealt.ranks() - 1) * size * element_bytes_);
    backward_of_text(name, dealt.others() * size, pieces);
  }
  void text_summed(const std::string& name, int64_t numbers, int ranks, int rank) {
    const Dealt slice(numbers, ranks, rank);
    const int64_t sent = slice.others() + slice.own * (ranks - 1);
    put(name, 1, sent * element_bytes_);
    backward_of_text(name, sent);
  }
  void gathered(const std::string& name, const Dealt& dealt, int64_t size) {
    add(name, dealt.own * (dealt.ranks() - 1) * size, dealt.others() * size);
  }
  void scattered(const std::string& name, const Dealt& dealt, int64_t size) {
    add(name, dealt.others() * size, dealt.own * (dealt.ranks() - 1) * size);
  }
  void passed_around(const std::string& name, const Dealt& rows, int rank, int64_t size) {
    const int n = static_cast<int>(rows.ranks());
    int64_t hops = 0, numbers = 0, gradient_hops = 0;
    for (int owner = 0; owner < n; ++owner) {
      const int64_t of_owner = 2 * rows.counts[static_cast<size_t>(owner)] * size;
      if (of_owner == 0) continue;
      if (owner != (rank + 1) % n) ++hops, numbers += of_owner;
      if (owner != rank) ++gradient_hops;
    }
    const int64_t wide = std::max<int64_t>(4, element_bytes_);
    put(name, hops, numbers * element_bytes_);
    if (!performed_.is_training) return;
    put(name + " backward", hops, numbers * element_bytes_);
    put(name + " gradients", gradient_hops, 2 * rows.others() * size * wide);
  }
  void times(int64_t n) { times_ = n; }

 private:
  void add(const std::string& name, int64_t forward, int64_t backward, int64_t calls = 1) {
    put(name, calls, forward * element_bytes_);
    if (performed_.is_training) put(name + " backward", calls, backward * element_bytes_);
  }
  void backward_of_text(const std::string& name, int64_t numbers, int64_t calls = 1) {
    if (!performed_.is_training) return;
    const int64_t all = std::exchange(times_, std::max<int64_t>(0, performed_.attentions - performed_.calls));
    put(name + " backward", calls, numbers * element_bytes_);
    times_ = all;
  }
  void put(const std::string& name, int64_t calls, int64_t bytes) {
    if (calls * times_ == 0) return;
    comm::Sent& row = ledger_[name];
    row.calls += calls * times_;
    row.bytes += bytes * times_;
  }

  Ledger& ledger_;
  const Performed& performed_;
  int64_t element_bytes_, times_ = 1;
};

void count_ulysses_ring(Count& count, const Arrangement& a, const ModelFacts& facts, const CallShape& call, int rank) {
  const int group = a.layout == "ulysses" ? a.ranks : a.layout == "ring" ? 1 : a.heads_ranks;
  const int rings = a.ranks / group, place = rank % group, ring_place = rank / group;
  const std::vector<int64_t> shares = comm::even_counts(call.extent.of(a.home), a.ranks);
  const auto first = shares.begin() + ring_place * group;
  const Dealt rows(std::vector<int64_t>(first, first + group), place), heads(facts.heads, group, place);
  const int64_t size = call.batch * call.extent.of(other(a.home)) * facts.head_dim();
  if (group > 1) {
    const int64_t pieces = pieces_of_switch(a, facts, call.extent);
    count.switched(UlyssesRing::kToHeads, heads, rows, 3 * size, pieces);
    count.switched(UlyssesRing::kToRows, rows, heads, size, pieces);
    if (call.text_rows > 0)
      count.text_gathered(UlyssesRing::kText, heads, call.batch * call.text_rows * facts.head_dim(), pieces);
  }
  if (rings > 1) {
    std::vector<int64_t> of_ring(static_cast<size_t>(rings), 0);
    for (size_t r = 0; r < shares.size(); ++r) of_ring[r / static_cast<size_t>(group)] += shares[r];
    count.passed_around(UlyssesRing::kRing, Dealt(of_ring, ring_place), ring_place, size * heads.own);
  }
}

void count_attention(Count& count, const Arrangement& a, const ModelFacts& facts, const CallShape& call, int rank) {
  const Extent& extent = call.extent;
  const Dealt home(extent.of(a.home), a.ranks, rank), away(extent.of(other(a.home)), a.ranks, rank);
  const int64_t wide = call.batch * facts.width;
  if (a.layout.starts_with("dsp")) {
    const int64_t pieces = pieces_of_switch(a, facts, extent);
    count.switched(Dsp::kThere, away, home, wide, pieces);
    count.switched(Dsp::kBack, home, away, wide, pieces);
  } else if (a.layout == "megatron") {
    count.gathered(Megatron::kGather, home, wide * away.all);
    count.scattered(Megatron::kScatter, home, wide * away.all);
    if (call.text_rows > 0) count.text_summed(Megatron::kText, wide * call.text_rows, a.ranks, rank);
  } else {
    count_ulysses_ring(count, a, facts, call, rank);
  }
}

}  // namespace

int64_t pieces_of_switch(const Arrangement& a, const ModelFacts& facts, const Extent& extent) {
  const bool is_dsp = a.layout.starts_with("dsp");
  const int64_t dealt = is_dsp ? extent.of(other(a.home)) : facts.heads;
  return static_cast<int64_t>(piece_counts(dealt, a.ranks, a.pieces, is_dsp ? Dsp::kLeastRows : 1).size());
}

int64_t exchanging_attentions(const ModelFacts& facts, Axis home) {
  return facts.along_all + (home == Axis::frames ? facts.along_frames : facts.along_rows);
}

Ledger expected_bytes(const Arrangement& a, const ModelFacts& facts, const CallShape& call, int rank,
                      const Performed& performed) {
  Ledger ledger;
  if (a.ranks == 1) return ledger;
  Count count(ledger, performed, call.element_bytes);
  count.times(performed.attentions);
  count_attention(count, a, facts, call, rank);
  count.times(performed.calls);
  count.gathered(exchange_name::kWhole, Dealt(call.extent.of(a.home), a.ranks, rank),
                 call.batch * call.extent.of(other(a.home)) * facts.outputs);
  return ledger;
}

Ledger by_name(const comm::Traffic& traffic) {
  Ledger ledger;
  for (const auto& [key, sent] : traffic.rows()) {
    if (key.second == "recv") continue;  // counted where it was sent
    comm::Sent& row = ledger[key.first];
    row.calls += sent.calls;
    row.bytes += sent.bytes;
  }
  return ledger;
}

comm::Sent total(const Ledger& ledger) {
  comm::Sent all;
  for (const auto& [name, sent] : ledger) all.calls += sent.calls, all.bytes += sent.bytes;
  return all;
}

comm::Sent total_in_blocks(const Ledger& ledger) {
  comm::Sent all;
  for (const auto& [name, sent] : ledger) {
    if (name.starts_with(exchange_name::kWhole)) continue;
    all.calls += sent.calls, all.bytes += sent.bytes;
  }
  return all;
}

}  // namespace kinora::parallel
