#include "kinora/parallel/dsp.h"

#include <utility>

#include "kinora/base/error.h"
#include "kinora/nn/run.h"

namespace kinora::parallel {

Streams Dsp::around(const Run& run, const Bracket& bracket, Streams streams,
                    c10::function_ref<Streams(const Run&, Streams)> f) const {
  const Part wanted = form_ == Form::stream ? Part::block : Part::attention;
  if (bracket.part != wanted || bracket.along != home_.axis()) return f(run, std::move(streams));
  const Axis home = home_.axis(), away = other(home);
  const Switch there{.cut = dim_of(away),
                     .join = dim_of(home),
                     .cut_counts = home_.shares(bracket.extent.of(away)),
                     .join_counts = home_.shares(bracket.extent.of(home))};
  const Dsp elsewhere(home_.group(), away, form_);
  Run inner = run;
  inner.layout = &elsewhere;
  streams[0] = switch_dims({streams[0]}, there, home_.group(), kThere)[0];
  streams = f(inner, std::move(streams));
  streams[0] = switch_dims({streams[0]}, there.back(), home_.group(), kBack)[0];
  return streams;
}

Streams Dsp::attend_all(const Heads&, const Heads*, const Extent&) const {
  throw UsageError("dsp: in this model every row attends to all others", "take ulysses, ring or ulysses+ring");
}

}  // namespace kinora::parallel
