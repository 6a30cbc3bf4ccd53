#include "kinora/graph/verify.h"

#include <algorithm>

namespace kinora::graph {
namespace {

bool is_close(const Tensor& got, const Tensor& want, double tolerance) {
  if (got.equal(want)) return true;
  if (tolerance == 0 || !want.is_floating_point()) return false;
  const Tensor wide = want.to(at::kDouble);
  const double largest = wide.abs().max().item<double>();
  return (got.to(at::kDouble) - wide).abs().max().item<double>() <= tolerance * largest;  // NaN is not
}

}  // namespace

std::vector<size_t> wrong_regions(const Chunked& chunked, const std::vector<Tensor>& inputs, double tolerance) {
  at::NoGradGuard no_grad;
  at::AutoDispatchBelowADInplaceOrView below;  // views would hold their base
  const Graph& graph = chunked.graph();
  Values values(graph, inputs);
  std::vector<size_t> wrong;
  size_t next = 0;
  for (int i = 0; i < graph.size();) {
    if (next == chunked.regions().size() || chunked.regions()[next].begin != i) {
      run_node(graph, i, values, {});
      values.release_after(i, false);
      ++i;
      continue;
    }
    const Region& region = chunked.regions()[next];
    Values pieces = values;
    bool is_right = true;
    try {
      chunked.run_region(next, pieces, {});
    } catch (const std::exception&) {
      is_right = false;  // the plan is dropped, whatever it was
    }
    for (int n = region.begin; n < region.end; ++n) run_node(graph, n, values, {});
    for (int n = region.begin; is_right && n < region.end; ++n) {
      for (const int id : graph.node(n).results) {
        if (graph.value(id).last_use >= region.end && !is_close(pieces.at(id), values.at(id), tolerance))
          is_right = false;
      }
    }
    if (!is_right) wrong.push_back(next);
    for (; i < region.end; ++i) values.release_after(i, false);
    ++next;
  }
  return wrong;
}

}  // namespace kinora::graph
