#include "kinora/parallel/megatron.h"

#include <string_view>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"
#include "kinora/nn/run.h"
#include "kinora/ops/linear.h"

namespace kinora::parallel {
namespace {

enum class Cut { rows, rows_of_three, columns, none };

struct Rule {
  std::string_view layer;
  Cut cut;
};
constexpr Rule kRules[] = {{"qkv", Cut::rows_of_three}, {"to_q", Cut::rows},    {"to_k", Cut::rows},
                           {"to_v", Cut::rows},         {"proj", Cut::columns}, {"to_out.0", Cut::columns}};

Cut cut_of(const Param& weight) {
  for (const Rule& rule : kRules) {
    if (weight.name.ends_with(concat(".", rule.layer, ".weight"))) return rule.cut;
  }
  return Cut::none;
}

}  // namespace

HeadWeights::HeadWeights(WeightSource& whole, int64_t heads, int64_t head_dim, const Communicator& group)
    : whole_(whole), heads_(heads), head_dim_(head_dim), adds_bias_(group.rank() == 0) {
  const std::vector<int64_t> counts = comm::even_counts(heads, group.size());
  first_ = comm::offsets(counts)[static_cast<size_t>(group.rank())];
  count_ = counts[static_cast<size_t>(group.rank())];
}

/// Of each of `parts` equal parts of dimension 0 the rows of this rank's heads.
Tensor HeadWeights::own_rows(const Tensor& t, int64_t parts) const {
  return t.unflatten(0, {parts, heads_, head_dim_}).narrow(1, first_, count_).flatten(0, 2);
}

Tensor HeadWeights::get(const Param& param) {
  if (param.shape == std::vector<int64_t>{head_dim_}) return whole_.get(param);
  throw UsageError(concat("megatron: no rule cuts ", param.name, " into heads"), "take ulysses, ring or ulysses+ring");
}

Tensor HeadWeights::linear(const Tensor& x, const Param& weight, const Param* bias) {
  const Cut cut = cut_of(weight);
  if (cut == Cut::none) {
    throw UsageError(concat("megatron: no rule cuts ", weight.name, " into heads"),
                     "take ulysses, ring or ulysses+ring");
  }
  const Tensor w = whole_.get(weight);
  std::optional<Tensor> b;
  if (cut == Cut::columns) {
    if (bias && adds_bias_) b = whole_.get(*bias);
    return ops::linear(x, w.narrow(1, first_ * head_dim_, count_ * head_dim_), b);
  }
  const int64_t parts = cut == Cut::rows_of_three ? 3 : 1;
  if (bias) b = own_rows(whole_.get(*bias), parts);
  return ops::linear(x, own_rows(w, parts), b);
}

Streams Megatron::around(const Run& run, const Bracket& bracket, Streams streams,
                         c10::function_ref<Streams(const Run&, Streams)> f) const {
  const bool needs_rows = !bracket.along || *bracket.along == home_.axis();
  if (bracket.part != Part::attention || !needs_rows || home_.group().size() == 1) return f(run, std::move(streams));
  Communicator& group = home_.group();
  const std::vector<int64_t> counts = home_.shares(bracket.extent.of(home_.axis()));
  HeadWeights weights(*run.weights, heads_, head_dim_, group);
  Run inner = run;
  inner.weights = &weights;
  inner.layout = &whole_layout();
  streams[0] = gather(streams[0], dim_of(home_.axis()), counts, group, kGather);
  streams = f(inner, std::move(streams));
  streams[0] = scatter_sum(streams[0], dim_of(home_.axis()), counts, group, kScatter);
  if (streams.size() > 1) streams[1] = parallel::sum(streams[1], group, kText);
  return streams;
}

}  // namespace kinora::parallel
