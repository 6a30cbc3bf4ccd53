#include "kinora/parallel/dsp.h"

#include <utility>

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"
#include "kinora/nn/run.h"
#include "kinora/parallel/pieces.h"

namespace kinora::parallel {

Tensor Dsp::local(const Tensor& whole, Axis axis, int dim) const {
  const bool is_piece = of_ && axis == home_.axis();
  return home_.local(is_piece ? whole.narrow(dim, of_->begin, of_->count) : whole, axis, dim);
}

Streams Dsp::around(const Run& run, const Bracket& bracket, Streams streams,
                    c10::function_ref<Streams(const Run&, Streams)> f) const {
  const Part wanted = form_ == Form::stream ? Part::block : Part::attention;
  if (bracket.part != wanted || bracket.along != home_.axis()) return f(run, std::move(streams));
  KINORA_ASSERT(streams.size() == 1);
  const Axis home = home_.axis(), away = other(home);
  const std::vector<int64_t> counts = piece_counts(bracket.extent.of(away), home_.group().size(), pieces_, kLeastRows);
  const std::vector<int64_t> begins = comm::offsets(counts);
  std::vector<Piece> pieces;
  for (size_t i = 0; i < counts.size(); ++i) {
    pieces.push_back({{streams[0].narrow(dim_of(away), begins[i], counts[i])},
                      {.cut = dim_of(away),
                       .join = dim_of(home),
                       .cut_counts = home_.shares(counts[i]),
                       .join_counts = home_.shares(bracket.extent.of(home))}});
  }
  streams.clear();
  const auto there = [&](size_t i, Streams piece) {
    Dsp elsewhere(home_.group(), away, form_);
    elsewhere.of_ = {begins[i], counts[i]};
    Run inner = run;
    inner.layout = &elsewhere;
    return f(inner, std::move(piece))[0];
  };
  const Streams home_again = switch_around(std::move(pieces), home_.group(), kThere, kBack, {}, there);
  return {join_in_order(home_again, dim_of(away), memory_order(home_again[0]))};
}

Streams Dsp::attend_all(const Heads&, const Heads*, const Extent&) const {
  throw UsageError("dsp: in this model every row attends to all others", "take ulysses, ring or ulysses+ring");
}

}  // namespace kinora::parallel
