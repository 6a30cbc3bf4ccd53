#include "kinora/parallel/layouts.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/comm/unconnected.h"
#include "kinora/parallel/dsp.h"
#include "kinora/parallel/megatron.h"
#include "kinora/parallel/ulysses_ring.h"

namespace kinora::parallel {
namespace {

std::string needs_an_axis(const ModelFacts& facts) {
  if (facts.along_all == 0) return {};
  return concat("in ", facts.name, " every row attends to all others, so that no axis is free to be cut instead");
}

std::string nothing(const ModelFacts&) { return {}; }

std::string needs_norms_by_head(const ModelFacts& facts) {
  if (!facts.norms_across_heads) return {};
  return concat(facts.name, " norms queries and keys over all heads at once, which no rank has");
}

constexpr LayoutKind kLayouts[] = {
    {"dsp", "switches the cut axis around each attention that needs the home axis whole", "2 M (N-1) / N^2",
     &needs_an_axis},
    {"dsp-stream", "switches the cut axis around each block whose attention needs the home axis whole",
     "2 M (N-1) / N^2", &needs_an_axis},
    {"ulysses", "switches queries, keys and values from rows to heads, and the result back", "4 M (N-1) / N^2",
     &nothing},
    {"ring", "passes keys and values around", "2 M (N-1) / N", &nothing},
    {"ulysses+ring", "exchanges heads among U neighbours, and passes keys and values around R such groups",
     "4 M (U-1) / (U N) + 2 M (R-1) / N", &nothing},
    {"megatron", "gathers the input of an attention, computes some heads of it, and scatters the sum", "2 M (N-1) / N",
     &needs_norms_by_head},
};

std::string names_that_fit(const ModelFacts& facts) {
  std::string names;
  for (const LayoutKind& kind : kLayouts) {
    if (kind.obstacle(facts).empty()) names += concat(names.empty() ? "" : ", ", kind.name);
  }
  return names;
}

/// Neighbours that exchange heads.
int heads_group(const Arrangement& a) {
  return a.layout == "ulysses" ? a.ranks : a.layout == "ulysses+ring" ? a.heads_ranks : 1;
}

std::unique_ptr<Layout> made(const Arrangement& a, const ModelFacts& facts, Communicator& sequence, Communicator& heads,
                             Communicator& ring) {
  if (a.ranks == 1) return std::make_unique<Layout>();
  if (a.layout == "dsp") return std::make_unique<Dsp>(sequence, a.home, Dsp::Form::attention, a.pieces);
  if (a.layout == "dsp-stream") return std::make_unique<Dsp>(sequence, a.home, Dsp::Form::stream);
  if (a.layout == "megatron") return std::make_unique<Megatron>(sequence, a.home, facts.heads, facts.head_dim());
  return std::make_unique<UlyssesRing>(sequence, heads, ring, a.home, a.pieces);
}

}  // namespace

std::span<const LayoutKind> layouts() { return kLayouts; }

void check_layout(const Arrangement& a, const ModelFacts& facts, const Extent& extent) {
  if (a.ranks < 1 || a.branches < 1 || a.branches > 2) {
    throw UsageError(concat("a layout over ", a.branches, " branches of ", a.ranks, " ranks"),
                     "take one or two branches of at least one rank");
  }
  if (a.ranks == 1) return;
  const auto* kind = std::find_if(std::begin(kLayouts), std::end(kLayouts),
                                  [&](const LayoutKind& row) { return row.name == a.layout; });
  if (kind == std::end(kLayouts)) {
    throw UsageError(concat("there is no layout \"", a.layout, "\""), concat("take one of ", names_that_fit(facts)));
  }
  if (const std::string obstacle = kind->obstacle(facts); !obstacle.empty()) {
    throw UsageError(concat(a.layout, " does not take this model: ", obstacle),
                     concat("take one of ", names_that_fit(facts)));
  }
  const int64_t most = std::max(extent.frames, extent.rows);
  if (a.ranks > most) {
    throw UsageError(
        concat(a.ranks, " ranks for ", extent.frames, " frames of ", extent.rows, " rows: most would own none"),
        concat("take at most ", most, " ranks a clip"));
  }
  if (a.layout == "ulysses+ring" && (a.heads_ranks < 1 || a.ranks % a.heads_ranks != 0)) {
    throw UsageError(concat("ulysses+ring: groups of ", a.heads_ranks, " out of ", a.ranks, " ranks"),
                     "their number must divide the ranks");
  }
  if (a.pieces < 1 || (a.pieces > 1 && a.layout != "dsp" && a.layout != "ulysses")) {
    throw UsageError(concat(a.layout, " with exchanges in ", a.pieces, " pieces"),
                     "dsp and ulysses exchange in one or more; a ring overlaps as it is");
  }
}

MadeLayout make_layout(const Arrangement& a, const ModelFacts& facts, const Extent& extent, Communicator& world) {
  check_layout(a, facts, extent);
  if (world.size() != a.ranks * a.branches) {
    throw UsageError(concat("a layout for ", a.branches, " x ", a.ranks, " ranks over ", world.size()));
  }
  const int branch = world.rank() / a.ranks, place = world.rank() % a.ranks;
  const int group = heads_group(a);
  MadeLayout all;
  all.across_ = world.split(place, branch);
  all.sequence_ = world.split(branch, place);
  all.heads_ = all.sequence_->split(place / group, place % group);
  all.ring_ = all.sequence_->split(place % group, place / group);
  all.layout_ = made(a, facts, *all.sequence_, *all.heads_, *all.ring_);
  return all;
}

MadeLayout shape_of_layout(const Arrangement& a, const ModelFacts& facts, const Extent& extent) {
  check_layout(a, facts, extent);
  MadeLayout all;
  all.across_ = comm::unconnected(a.branches);
  all.sequence_ = comm::unconnected(a.ranks);
  all.heads_ = comm::unconnected(heads_group(a));
  all.ring_ = comm::unconnected(a.ranks / heads_group(a));
  all.layout_ = made(a, facts, *all.sequence_, *all.heads_, *all.ring_);
  return all;
}

}  // namespace kinora::parallel
