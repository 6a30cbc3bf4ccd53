#include "kinora/graph/chunked.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "kinora/base/error.h"
#include "kinora/graph/parts.h"
#include "kinora/graph/rule_parts.h"
#include "kinora/graph/two_pass.h"

namespace kinora::graph {
namespace {

/// What one piece has made so far, and which rows of the value that is.
struct Piece {
  std::map<int, std::pair<Tensor, Part>> local;
  std::map<int, int> last_read;  ///< by value: the step
};

Tensor take(const Piece& piece, const Values& values, int id, const Part& need) {
  const auto found = piece.local.find(id);
  if (found == piece.local.end()) return part_of(values.at(id), need);
  const auto& [t, has] = found->second;
  if (need == has) return t;
  KINORA_ASSERT(need.dim == has.dim && need.begin >= has.begin && need.end <= has.end);
  return t.narrow(need.dim, need.begin - has.begin, need.length());
}

/// Where the region's inputs lie, and so its results.
c10::Device device_of(const Graph& graph, const Region& region, const Values& values) {
  for (int i = region.begin; i < region.end; ++i) {
    for (const int id : graph.node(i).reads) {
      if (id >= 0 && values.at(id).defined()) return values.at(id).device();
    }
  }
  return c10::kCPU;
}

using AllMoments = std::map<int, Moments>;

std::vector<Tensor> run_step(const Graph& graph, const Step& step, const Piece& piece, const Values& values,
                             const AllMoments& moments) {
  const Node& node = graph.node(step.node);
  const auto tensor_of = [&](size_t read, int id) { return take(piece, values, id, step.cut.needs[read]); };
  if (!step.cut.is_two_pass) return run_cut(node, step.cut, tensor_of);
  CallStack stack;
  size_t read = 0;
  push_arguments(node, stack, [&](int id) { return tensor_of(read++, id); });
  return {norm_by_moments(node, stack, moments.at(step.node))};
}

/// Runs the steps; `on_made` sees each step's results while they live.
template <typename OnMade>
void run_steps(const Graph& graph, const std::vector<Step>& steps, const Values& values, const AllMoments& moments,
               Piece& piece, const std::set<int>& kept, const OnMade& on_made) {
  std::map<int, int> last;
  for (size_t i = 0; i < steps.size(); ++i) {
    const Node& node = graph.node(steps[i].node);
    for (const int id : node.results) last[id] = static_cast<int>(i);
    for (const int id : node.reads) {
      if (last.count(id)) last[id] = static_cast<int>(i);
    }
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    const Node& node = graph.node(steps[i].node);
    std::vector<Tensor> results = run_step(graph, steps[i], piece, values, moments);
    KINORA_ASSERT(results.size() == node.results.size());
    for (size_t r = 0; r < results.size(); ++r) {
      if (results[r].size(steps[i].out.dim) != steps[i].out.length()) {
        throw std::logic_error(concat(node.name(), " gave ", results[r].sizes(), " for rows ", steps[i].out.begin,
                                      " .. ", steps[i].out.end));
      }
      piece.local[node.results[r]] = {std::move(results[r]), steps[i].out};
    }
    on_made(node);
    for (const std::vector<int>& some : {node.reads, node.results}) {
      for (const int id : some) {
        const auto found = last.find(id);
        if (found != last.end() && found->second == static_cast<int>(i) && !kept.count(id)) piece.local.erase(id);
      }
    }
  }
}

}  // namespace

Chunked::Chunked(const Graph& graph, std::vector<Region> regions) : graph_(graph), regions_(std::move(regions)) {
  Router router(graph);
  int end = 0;
  for (const Region& region : regions_) {
    if (region.begin < end || region.end > graph.size() || region.begin >= region.end || !router.runs(region)) {
      throw UsageError(concat("graph: nodes ", region.begin, " .. ", region.end, " cannot run in pieces of ",
                              region.chunk, " along dim ", region.dim),
                       "plan it anew");
    }
    end = region.end;
    Bound bound;
    const int64_t all = router.length(region);
    for (int64_t b = 0; b < all; b += region.chunk)
      bound.pieces.push_back(*router.course(region, b, std::min(b + region.chunk, all)));
    bound.donations = donations(graph, region, bound.pieces[0]);
    for (const Step& step : bound.pieces[0].steps) {
      if (!step.cut.is_two_pass) continue;
      bound.statistics.push_back({step.node, *router.statistics(region, step)});
    }
    bound_.push_back(std::move(bound));
  }
}

void Chunked::run_region(size_t which, Values& values, const ReplayOptions& options) const {
  const Region& region = regions_[which];
  const Bound& bound = bound_[which];
  for (const int i : bound.pieces[0].hoisted) run_node(graph_, i, values, options);
  AllMoments moments;
  for (const Bound::Statistics& s : bound.statistics) {
    const Node& node = graph_.node(s.node);
    Moments& m = moments.emplace(s.node, Moments(plain(node, 1).toInt())).first->second;
    for (const Router::StatisticsPiece& p : s.pieces) {
      Piece piece;
      run_steps(graph_, p.course.steps, values, moments, piece, {node.reads[0]}, [](const Node&) {});
      m.add(take(piece, values, node.reads[0], p.part));
    }
  }
  const c10::Device device = device_of(graph_, region, values);
  std::map<int, Tensor> whole;
  for (const Course::Output& o : bound.pieces[0].outputs) {
    const Tensor& twin = graph_.value(o.value).twin;
    const auto donor =
        std::find_if(bound.donations.begin(), bound.donations.end(), [&](const auto& d) { return d.first == o.value; });
    // Whoever else holds the tensor would see it change.
    const bool is_given = donor != bound.donations.end() && values.at(donor->second).use_count() == 1 &&
                          values.at(donor->second).storage().use_count() == 1 &&
                          values.at(donor->second).strides() == twin.strides();
    whole[o.value] = is_given ? values.at(donor->second)
                              : at::empty_strided(twin.sizes(), twin.strides(), twin.options().device(device));
  }
  const Node& last = graph_.node(region.end - 1);
  Tensor sum;
  for (const Course& course : bound.pieces) {
    Piece piece;
    std::set<int> kept;
    for (const auto& [to, from] : bound.donations) kept.insert(to);  // what it is written over is read until the end
    if (region.kind == RegionKind::columns) kept.insert(last.reads[0]);
    const auto write = [&](const Course::Output& o) {
      part_of(whole.at(o.value), o.part).copy_(take(piece, values, o.value, o.part));
    };
    run_steps(graph_, course.steps, values, moments, piece, kept, [&](const Node& node) {
      for (const Course::Output& o : course.outputs) {
        const bool is_made = std::find(node.results.begin(), node.results.end(), o.value) != node.results.end();
        if (is_made && !kept.count(o.value)) write(o);
      }
    });
    for (const Course::Output& o : course.outputs) {
      if (kept.count(o.value)) write(o);
    }
    if (region.kind != RegionKind::columns) continue;
    const auto& [x, features] = piece.local.at(last.reads[0]);
    const Tensor weight = part_of(values.at(last.reads[1]), {1, features.begin, features.end});
    const bool has_bias = !sum.defined() && has_tensor(last, 2);
    Tensor part = at::linear(x, weight, has_bias ? std::optional<Tensor>(values.at(last.reads[2])) : std::nullopt);
    sum = sum.defined() ? sum.add_(part) : part;
  }
  for (auto& [id, t] : whole) values.set(id, std::move(t));
  if (sum.defined()) values.set(last.results[0], std::move(sum));
}

std::vector<Tensor> Chunked::operator()(std::vector<Tensor> inputs, const ReplayOptions& options) const {
  at::NoGradGuard no_grad;
  at::AutoDispatchBelowADInplaceOrView below;  // views would hold their base
  Values values(graph_, std::move(inputs));
  inputs.clear();
  size_t next = 0;
  for (int i = 0; i < graph_.size();) {
    if (next < regions_.size() && regions_[next].begin == i) {
      run_region(next, values, options);
      for (const int end = regions_[next++].end; i < end; ++i) values.release_after(i, false);
    } else {
      run_node(graph_, i, values, options);
      values.release_after(i, options.poisons);
      ++i;
    }
  }
  return values.take_outputs();
}

}  // namespace kinora::graph
