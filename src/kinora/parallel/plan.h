// Which layout for a model, a shape and a number of ranks: bytes by the formulas of bytes.h, time by the link's speed and
// by the rank that owns the most rows.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kinora/parallel/facts.h"

namespace kinora::parallel {

/// How ranks are linked. Bytes of one rank, one way.
struct Link {
  double bytes_per_second = 0;
  double latency_seconds = 0;  ///< of one exchange
};

/// The share of attentions that a cache leaves to be computed, by what they run along; 1: all.
struct Computed {
  double along_frames = 1, along_rows = 1, along_all = 1;
};

struct Request {
  ModelFacts facts;
  CallShape call;  ///< with all guidance branches in the batch
  int ranks = 1;
  int branches = 1;  ///< of guidance in the batch: 2 may be computed apart
  int pieces = 1;    ///< of each exchange; of layouts that have none, 1 alone is weighed
  Link link;
  double seconds_of_one = 0;  ///< a model call on one rank
  Computed computed;
};

struct Candidate {
  Arrangement arrangement;
  double bytes = 0;      ///< a model call, of the rank that sends most
  double exchanges = 0;  ///< a model call
  double seconds = 0;    ///< a model call, compute and exchanges one after the other
};

/// All arrangements that the model takes, the fastest first. Throws UsageError where none does.
std::vector<Candidate> layout_candidates(const Request& request);

struct Choice {
  Candidate best;
  std::string reason;  ///< one sentence
};

/// "dsp", "guidance", "guidance+ring", "dsp/2" where exchanges go in two pieces: how people name what ranks do.
std::string name_of(const Arrangement& arrangement);

/// The fastest, or the fastest of those with the name `wanted`. Throws UsageError, naming what fits: for a name that no
/// layout has, for one that the model or these ranks cannot take.
Choice choose_layout(const Request& request, std::string_view wanted = "auto");

}  // namespace kinora::parallel
