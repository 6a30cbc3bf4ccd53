#include "kinora/graph/region.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/graph/rule_parts.h"

namespace kinora::graph {

Router::Router(const Graph& graph)
    : graph_(graph),
      demands_(graph.values.size()),
      is_chain_(graph.values.size(), true),
      aliases_(graph.values.size()) {
  for (size_t id = 0; id < graph.values.size(); ++id) {
    const Value& v = graph.values[id];
    const auto root = static_cast<size_t>(v.root);
    aliases_[root].push_back(static_cast<int>(id));
    if (root != id && (v.def < 0 || graph.node(v.def).writes.empty())) is_chain_[root] = false;
  }
}

int64_t Router::length(const Region& region) const {
  const Node& last = graph_.node(region.end - 1);
  if (last.results.empty()) return 0;
  if (region.kind == RegionKind::columns) {
    const bool is_linear = last.name() == "aten::linear" || last.name() == "kinora::linear";
    const int x = is_linear ? last.reads[0] : -1;
    return x >= 0 && graph_.value(x).def >= region.begin ? graph_.value(x).twin.size(-1) : 0;
  }
  const Tensor& y = result(graph_, last);
  return region.dim < y.dim() ? y.size(region.dim) : 0;
}

Router::Demand& Router::demand(int id) {
  Demand& d = demands_[static_cast<size_t>(id)];
  if (d.stamp != stamp_) d = {.stamp = stamp_};
  return d;
}

bool Router::ask(int id, const Part& part) {
  Demand& d = demand(id);
  if (part.is_whole()) {
    d.is_whole = true;
    return true;
  }
  if (d.part.is_whole()) {
    d.part = part;
    return true;
  }
  if (d.part.dim != part.dim) return false;
  d.part.begin = std::min(d.part.begin, part.begin);
  d.part.end = std::max(d.part.end, part.end);
  return true;
}

bool Router::ask_all(const Node& node, const Cut& cut) {
  for (size_t i = 0; i < node.reads.size(); ++i) {
    if (node.reads[i] >= 0 && !ask(node.reads[i], cut.needs[i])) return false;
  }
  return true;
}

/// A node may write over what a loop made for itself, if nothing else names that memory.
bool Router::can_write(const Node& node, const Region& region) const {
  return std::all_of(node.writes.begin(), node.writes.end(), [&](int id) {
    const Storage& s = graph_.storage_of(id);
    return s.def >= region.begin && is_chain_[static_cast<size_t>(graph_.value(id).root)];
  });
}

/// A value that is put together from pieces has a storage of its own, as it had before: then what is alive elsewhere
/// does not depend on the region.
bool Router::can_leave(int id, const Region& region) const {
  const Value& v = graph_.value(id);
  const Storage& s = graph_.storage_of(id);
  if (s.is_fixed || s.def < region.begin || bytes_of(v) != s.bytes || !v.twin.is_non_overlapping_and_dense())
    return false;
  const auto& names = aliases_[static_cast<size_t>(v.root)];
  return std::count_if(names.begin(), names.end(),
                       [&](int other) { return graph_.value(other).last_use >= region.end; }) == 1;
}

/// For a result that leaves the region though nothing inside reads it: the first dim of the right length that does not
/// contradict what is known.
std::optional<Cut> Router::choose_dim(const Region& region, const Node& node, int64_t begin, int64_t end,
                                      int64_t length, Part& out) {
  if (region.kind != RegionKind::rows) return std::nullopt;
  const Tensor& y = result(graph_, node);
  for (int d = 0; d < y.dim(); ++d) {
    if (y.size(d) != length) continue;
    out = {d, begin, end};
    std::optional<Cut> c = cut(graph_, node, out);
    bool fits = c.has_value();
    for (size_t i = 0; fits && i < node.reads.size(); ++i) {
      const int id = node.reads[i];
      if (id < 0 || graph_.value(id).def < region.begin || graph_.value(id).constant.defined()) continue;
      const Demand& known = demand(id);
      const bool has_part = !known.part.is_whole();
      fits = c->needs[i].is_whole() ? !has_part : !known.is_whole && (!has_part || known.part.dim == c->needs[i].dim);
    }
    if (fits) return c;
  }
  return std::nullopt;
}

bool Router::visit(const Region& region, int index, int64_t begin, int64_t end, Course& course) {
  const Node& node = graph_.node(index);
  const int64_t length = this->length(region);
  Part out;
  bool is_whole = false, leaves = false;
  for (const int id : node.results) {
    const Value& v = graph_.value(id);
    if (v.def != index) return false;  // handed through: not a value of its own
    Demand& d = demand(id);
    if (v.last_use >= region.end) {
      leaves = true;
      if (!d.part.is_whole() && !(v.twin.size(d.part.dim) == length && ask(id, {d.part.dim, begin, end}))) return false;
    }
    is_whole = is_whole || d.is_whole;
    if (d.part.is_whole()) continue;
    if (!out.is_whole() && out.dim != d.part.dim) return false;
    out = out.is_whole() ? d.part : Part{out.dim, std::min(out.begin, d.part.begin), std::max(out.end, d.part.end)};
  }
  // What reads nothing is made whole, and cut where it is read.
  const bool is_factory = node.rule && node.reads.empty();
  if (!out.is_whole() && is_whole && !is_factory) return false;
  std::optional<Cut> c;
  if (!out.is_whole() && !is_factory) {
    c = cut(graph_, node, out);
    if (!c) return false;
  } else if (leaves && !is_whole && !is_factory) {
    c = choose_dim(region, node, begin, end, length, out);
  }
  if (!c) {  // whole, before the loop
    if (!node.rule || !node.writes.empty()) return false;
    for (const int id : node.reads) {
      if (id >= 0) ask(id, {});
    }
    course.hoisted.push_back(index);
    return true;
  }
  if (!can_write(node, region) || !ask_all(node, *c)) return false;
  for (const int id : node.results) {
    if (graph_.value(id).last_use < region.end) continue;
    if (!can_leave(id, region) || graph_.value(id).twin.size(out.dim) != length) return false;
    course.outputs.push_back({id, {out.dim, begin, end}});
  }
  course.steps.push_back({index, out, std::move(*c)});
  return true;
}

std::optional<Course> Router::walk(const Region& region, int last, int64_t begin, int64_t end) {
  Course course;
  for (int i = last; i >= region.begin; --i) {
    // Behind a node whose input is asked for, most are of no interest.
    if (!visit(region, i, begin, end, course)) return std::nullopt;
  }
  std::reverse(course.steps.begin(), course.steps.end());
  std::reverse(course.hoisted.begin(), course.hoisted.end());
  return course;
}

std::optional<Course> Router::course(const Region& region, int64_t begin, int64_t end) {
  ++stamp_;
  const Node& last = graph_.node(region.end - 1);
  if (length(region) == 0 || !last.rule) return std::nullopt;
  if (region.kind == RegionKind::rows) {
    if (!ask(last.results[0], {region.dim, begin, end})) return std::nullopt;
    return walk(region, region.end - 1, begin, end);
  }
  const Tensor& x = tensor(graph_, last, 0);
  if (!can_leave(last.results[0], region)) return std::nullopt;
  ask(last.reads[0], {static_cast<int>(x.dim()) - 1, begin, end});
  for (size_t i = 1; i < last.reads.size(); ++i) {
    if (last.reads[i] >= 0) ask(last.reads[i], {});
  }
  auto course = walk(region, region.end - 2, begin, end);
  // The sum alone leaves: everything else would need another cut.
  if (course && !course->outputs.empty()) return std::nullopt;
  return course;
}

std::optional<Course> Router::course_to(const Region& region, int two_pass_node, const Part& rows) {
  ++stamp_;
  const int x = graph_.node(two_pass_node).reads[0];
  if (!ask(x, rows)) return std::nullopt;
  Course course;
  for (int i = two_pass_node - 1; i >= region.begin; --i) {
    const Node& node = graph_.node(i);
    Part out;
    for (const int id : node.results) {
      const Part& p = demand(id).part;
      if (!p.is_whole()) out = out.is_whole() ? p : Part{p.dim, std::min(out.begin, p.begin), std::max(out.end, p.end)};
    }
    if (out.is_whole()) continue;  // hoisted, or not needed for this
    auto c = cut(graph_, node, out);
    if (!c || !ask_all(node, *c)) return std::nullopt;
    course.steps.push_back({i, out, std::move(*c)});
  }
  std::reverse(course.steps.begin(), course.steps.end());
  return course;
}

std::optional<std::vector<Router::StatisticsPiece>> Router::statistics(const Region& region, const Step& two_pass) {
  const int dim = two_pass.cut.needs[0].dim;
  const int64_t rows = graph_.value(graph_.node(two_pass.node).reads[0]).twin.size(dim);
  const int64_t pieces = (length(region) + region.chunk - 1) / region.chunk;
  // Merged dims and upsampling want multiples.
  for (int64_t align = 1; align <= 64; align *= 2) {
    const int64_t each = ((rows + pieces - 1) / pieces + align - 1) / align * align;
    std::vector<StatisticsPiece> out;
    for (int64_t begin = 0; begin < rows; begin += each) {
      const Part part{dim, begin, std::min(begin + each, rows)};
      auto course = course_to(region, two_pass.node, part);
      if (!course) break;
      out.push_back({part, std::move(*course)});
    }
    if (!out.empty() && out.back().part.end == rows) return out;
  }
  return std::nullopt;
}

bool Router::runs(const Region& region) {
  const int64_t all = length(region);
  if (all == 0 || region.chunk < 1) return false;
  std::optional<Course> first;
  for (int64_t begin = 0; begin < all; begin += region.chunk) {
    auto now = course(region, begin, std::min(begin + region.chunk, all));
    if (!now) return false;
    if (!first) {
      for (const Step& step : now->steps) {
        if (step.cut.is_two_pass && !statistics(region, step)) return false;
      }
      first = now;
    }
    if (now->hoisted != first->hoisted || now->steps.size() != first->steps.size() ||
        now->outputs.size() != first->outputs.size())
      return false;
    for (size_t i = 0; i < now->outputs.size(); ++i) {
      if (now->outputs[i].value != first->outputs[i].value || now->outputs[i].part.dim != first->outputs[i].part.dim)
        return false;
    }
  }
  return true;
}

}  // namespace kinora::graph
