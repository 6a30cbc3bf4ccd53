// What the rules are written with.
#pragma once

#include "kinora/graph/rules.h"

namespace kinora::graph {

using MaybeCut = std::optional<Cut>;
using Sizes = std::vector<int64_t>;

inline const Tensor& result(const Graph& g, const Node& n) { return g.value(n.results[0]).twin; }
inline bool has_tensor(const Node& n, size_t argument) {
  return argument < n.arguments.size() && n.arguments[argument].form == Argument::Form::one;
}
inline const Tensor& tensor(const Graph& g, const Node& n, size_t argument) {
  return g.value(n.arguments[argument].ids[0]).twin;
}
inline const c10::IValue& plain(const Node& n, size_t argument) { return n.arguments[argument].plain; }
inline int dim_of(const c10::IValue& v, int64_t dims) { return static_cast<int>(at::maybe_wrap_dim(v.toInt(), dims)); }

/// As many whole needs as the node reads values.
inline Cut whole_cut(const Node& n) { return {.needs = std::vector<Part>(n.reads.size())}; }
/// The place of an argument's first tensor among Node::reads.
inline size_t read_index(const Node& n, size_t argument) {
  size_t at = 0;
  for (size_t i = 0; i < argument; ++i) at += n.arguments[i].ids.size();
  return at;
}
inline Part on(const Part& out, int dim) { return {dim, out.begin, out.end}; }
/// The part of an operand that broadcasts against a result of `out_dims` dims; nullopt: its size there is another.
std::optional<Part> aligned(const Tensor& operand, int64_t out_dims, int64_t out_size, const Part& out);

// rules_rows.cpp
MaybeCut elementwise(const Graph&, const Node&, const Part&);
MaybeCut linear(const Graph&, const Node&, const Part&);
MaybeCut linear_by_id(const Graph&, const Node&, const Part&);
MaybeCut matmul(const Graph&, const Node&, const Part&);
MaybeCut addmm(const Graph&, const Node&, const Part&);
MaybeCut einsum(const Graph&, const Node&, const Part&);
MaybeCut layer_norm(const Graph&, const Node&, const Part&);
MaybeCut modulated_norm(const Graph&, const Node&, const Part&);
MaybeCut last_dim_norm(const Graph&, const Node&, const Part&);
MaybeCut norm_rotary(const Graph&, const Node&, const Part&);
MaybeCut along_dim(const Graph&, const Node&, const Part&);
MaybeCut reduction(const Graph&, const Node&, const Part&);
MaybeCut attention(const Graph&, const Node&, const Part&);
MaybeCut attention_packed(const Graph&, const Node&, const Part&);
MaybeCut embedding(const Graph&, const Node&, const Part&);
MaybeCut index_select(const Graph&, const Node&, const Part&);
MaybeCut factory(const Graph&, const Node&, const Part&);
// rules_views.cpp
MaybeCut view(const Graph&, const Node&, const Part&);
MaybeCut flatten(const Graph&, const Node&, const Part&);
MaybeCut unflatten(const Graph&, const Node&, const Part&);
MaybeCut permute(const Graph&, const Node&, const Part&);
MaybeCut transpose(const Graph&, const Node&, const Part&);
MaybeCut unsqueeze(const Graph&, const Node&, const Part&);
MaybeCut squeeze(const Graph&, const Node&, const Part&);
MaybeCut select(const Graph&, const Node&, const Part&);
MaybeCut slice(const Graph&, const Node&, const Part&);
MaybeCut split(const Graph&, const Node&, const Part&);
MaybeCut joined(const Graph&, const Node&, const Part&);
MaybeCut expand(const Graph&, const Node&, const Part&);
MaybeCut pad(const Graph&, const Node&, const Part&);
// rules_conv.cpp
MaybeCut conv(const Graph&, const Node&, const Part&);
MaybeCut group_norm(const Graph&, const Node&, const Part&);
MaybeCut upsample(const Graph&, const Node&, const Part&);
MaybeCut pool(const Graph&, const Node&, const Part&);

}  // namespace kinora::graph
