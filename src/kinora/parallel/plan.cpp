#include "kinora/parallel/plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/comm/counts.h"
#include "kinora/parallel/bytes.h"
#include "kinora/parallel/home.h"
#include "kinora/parallel/layouts.h"

namespace kinora::parallel {
namespace {

constexpr int kMostPieces = 64;

/// Attentions that are computed and exchange, on the average of a run's calls.
double computed_attentions(const Request& r, Axis home) {
  const auto along = home == Axis::frames ? static_cast<double>(r.facts.along_frames) * r.computed.along_frames
                                          : static_cast<double>(r.facts.along_rows) * r.computed.along_rows;
  return along + static_cast<double>(r.facts.along_all) * r.computed.along_all;
}

/// How many of n things the rank with the most has, against an even share.
double imbalance(int64_t n, int ranks) {
  return static_cast<double>(comm::even_counts(n, ranks)[0]) * ranks / static_cast<double>(n);
}

Candidate weigh(const Request& r, const Arrangement& a) {
  Candidate c{.arrangement = a};
  CallShape call = r.call;
  call.batch = (r.call.batch + a.branches - 1) / a.branches;
  const double attentions = computed_attentions(r, a.home);
  for (int rank = 0; rank < a.ranks; ++rank) {
    const comm::Sent one = total(expected_bytes(a, r.facts, call, rank, {.attentions = 1}));
    const comm::Sent last = total(expected_bytes(a, r.facts, call, rank, {.calls = 1}));
    c.bytes = std::max(c.bytes, attentions * static_cast<double>(one.bytes) + static_cast<double>(last.bytes));
    c.exchanges = std::max(c.exchanges, attentions * static_cast<double>(one.calls) + static_cast<double>(last.calls));
  }
  if (a.branches > 1) {  // the prediction of the other branch, in float32
    c.bytes += static_cast<double>(call.batch * call.extent.frames * call.extent.rows * r.facts.outputs * 4);
    c.exchanges += 1;
  }
  const double compute = r.seconds_of_one / (a.ranks * a.branches) * imbalance(r.call.extent.of(a.home), a.ranks);
  c.seconds = compute + c.bytes / r.link.bytes_per_second + c.exchanges * r.link.latency_seconds;
  return c;
}

std::string described(const Arrangement& a, const Request& r) {
  std::string text = a.ranks == 1 ? "no sequence layout" : a.layout;
  if (a.layout == "ulysses+ring" && a.ranks > 1) text += concat(" ", a.heads_ranks, " x ", a.ranks / a.heads_ranks);
  if (a.ranks > 1) text += concat(" over ", a.ranks, " ranks, cut along ", a.home == Axis::frames ? "frames" : "rows");
  if (a.pieces > 1) {
    const int64_t pieces = pieces_of_switch(a, r.facts, r.call.extent);
    text += pieces > 1 ? concat(", exchanged in ", pieces, " pieces") : ", exchanged whole, being too short for pieces";
  }
  if (a.branches > 1) text = concat("guidance branches apart, each with ", text);
  return text;
}

/// 12.3 MB
std::string megabytes(double bytes) { return concat(std::round(bytes / 1e5) / 10, " MB"); }

void add_if_taken(std::vector<Candidate>& all, const Request& r, const Arrangement& a) {
  try {
    check_layout(a, r.facts, r.call.extent);
  } catch (const UsageError&) {
    return;
  }
  all.push_back(weigh(r, a));
}

void add_layouts(std::vector<Candidate>& all, const Request& r, int branches) {
  const int ranks = r.ranks / branches;
  if (ranks == 1) return add_if_taken(all, r, {.ranks = 1, .branches = branches});
  for (const LayoutKind& kind : layouts()) {
    for (const Axis home : {Axis::frames, Axis::rows}) {
      Arrangement a{.layout = kind.name, .home = home, .ranks = ranks, .branches = branches, .pieces = r.pieces};
      if (a.layout != "ulysses+ring") {
        add_if_taken(all, r, a);
        continue;
      }
      for (a.heads_ranks = 2; a.heads_ranks < ranks; ++a.heads_ranks) add_if_taken(all, r, a);
    }
  }
}

/// Of "dsp/2" the 2; what no name ends with is refused with the names.
int pieces_of(std::string_view name) {
  const size_t slash = name.find('/');
  int pieces = 1;
  if (slash != std::string_view::npos) std::from_chars(name.data() + slash + 1, name.data() + name.size(), pieces);
  return std::clamp(pieces, 1, kMostPieces);
}

[[noreturn]] void refuse(const Request& r, std::string_view wanted, const std::vector<Candidate>& all) {
  std::vector<std::string> names;
  for (const Candidate& c : all) {
    const std::string name = name_of(c.arrangement);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  std::string fitting;
  for (const std::string& name : names) fitting += concat(fitting.empty() ? "" : ", ", name);
  throw UsageError(
      concat("\"", printable(wanted, 40), "\" is no layout that ", r.facts.name, " takes on ", r.ranks, " ranks"),
      concat("take auto, or one of ", fitting));
}

}  // namespace

std::vector<Candidate> layout_candidates(const Request& r) {
  if (r.ranks < 1 || !(r.link.bytes_per_second > 0))
    throw UsageError("a plan needs at least one rank and the speed of the link between ranks");
  std::vector<Candidate> all;
  add_layouts(all, r, 1);
  if (r.branches == 2 && r.ranks % 2 == 0) add_layouts(all, r, 2);
  if (all.empty()) {
    const int64_t most = std::max(r.call.extent.frames, r.call.extent.rows);
    throw UsageError(concat(r.ranks, " ranks for ", r.call.extent.frames, " frames of ", r.call.extent.rows, " rows"),
                     concat("take at most ", r.branches == 2 ? 2 * most : most, " ranks"));
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Candidate& a, const Candidate& b) { return a.seconds < b.seconds; });
  return all;
}

std::string name_of(const Arrangement& a) {
  const std::string layout = a.ranks == 1 ? "" : a.pieces > 1 ? concat(a.layout, "/", a.pieces) : a.layout;
  return a.branches == 1 ? layout : layout.empty() ? "guidance" : "guidance+" + layout;
}

Choice choose_layout(const Request& request, std::string_view wanted) {
  Request r = request;
  r.pieces = pieces_of(wanted);
  const std::vector<Candidate> all = layout_candidates(r);
  const auto found = std::find_if(
      all.begin(), all.end(), [&](const Candidate& c) { return wanted == "auto" || name_of(c.arrangement) == wanted; });
  if (found == all.end()) refuse(r, wanted, all);
  const Candidate& best = *found;
  std::string reason = described(best.arrangement, r);
  if (r.ranks == 1) return {best, "one rank has all rows"};
  const auto& a = best.arrangement;
  reason += concat(": each rank sends at most ", megabytes(best.bytes), " a model call");
  if (a.ranks > 1) {
    const auto shares = comm::even_counts(r.call.extent.of(a.home), a.ranks);
    reason += concat(" and owns ", shares.back(), shares.back() == shares.front() ? "" : concat(" to ", shares.front()),
                     " of ", r.call.extent.of(a.home), a.home == Axis::frames ? " frames" : " rows of a frame");
  }
  // What it was chosen before: the next that is made of something else.
  const auto next = std::find_if(all.begin(), all.end(), [&](const Candidate& c) {
    return c.arrangement.layout != a.layout && !(a.layout == "dsp" && c.arrangement.layout == "dsp-stream");
  });
  if (next != all.end()) {
    reason += concat("; next would be ", described(next->arrangement, r), " with ", megabytes(next->bytes));
  }
  return {best, reason};
}

}  // namespace kinora::parallel
