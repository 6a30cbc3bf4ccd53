// Rules of operators that work row by row: elementwise, products, norms, attention, tables.
#include <algorithm>

#include "kinora/graph/rule_parts.h"

namespace kinora::graph {

std::optional<Part> aligned(const Tensor& operand, int64_t out_dims, int64_t out_size, const Part& out) {
  const int64_t dim = out.dim - (out_dims - operand.dim());
  if (dim < 0 || (operand.size(dim) == 1 && out_size != 1)) return Part{};
  if (operand.size(dim) != out_size) return std::nullopt;
  return on(out, static_cast<int>(dim));
}

MaybeCut elementwise(const Graph& g, const Node& n, const Part& out) {
  const Tensor& y = result(g, n);
  Cut c;
  for (const int id : n.reads) {
    const auto part = id < 0 ? Part{} : aligned(g.value(id).twin, y.dim(), y.size(out.dim), out);
    if (!part) return std::nullopt;
    c.needs.push_back(*part);
  }
  return c;
}

/// x, weight [out, in], bias [out].
MaybeCut linear(const Graph& g, const Node& n, const Part& out) {
  Cut c = whole_cut(n);
  if (out.dim < result(g, n).dim() - 1) {
    c.needs[0] = out;
    return c;
  }
  // Features: of the weight, of its scales where it is bytes, of the bias.
  for (size_t i = 1; i < n.arguments.size(); ++i) {
    if (has_tensor(n, i)) c.needs[read_index(n, i)] = on(out, 0);
  }
  return c;
}

MaybeCut linear_by_id(const Graph& g, const Node& n, const Part& out) {
  if (out.dim == result(g, n).dim() - 1) return std::nullopt;  // the weight is named, not given
  Cut c = whole_cut(n);
  c.needs[0] = out;
  return c;
}

namespace {
/// Parts of the two factors of a product [..., rows, columns].
bool product_parts(const Tensor& a, const Tensor& b, const Tensor& y, const Part& out, Part& of_a, Part& of_b) {
  if (a.dim() < 2 || b.dim() < 2) return false;
  const int64_t from_end = y.dim() - out.dim;  // 1: columns, 2: rows
  if (from_end == 1) {
    of_b = on(out, static_cast<int>(b.dim()) - 1);
    return true;
  }
  if (from_end == 2) {
    of_a = on(out, static_cast<int>(a.dim()) - 2);
    return true;
  }
  const auto pa = aligned(a, y.dim(), y.size(out.dim), out), pb = aligned(b, y.dim(), y.size(out.dim), out);
  if (!pa || !pb) return false;
  of_a = *pa, of_b = *pb;
  return true;
}
}  // namespace

MaybeCut matmul(const Graph& g, const Node& n, const Part& out) {
  Cut c = whole_cut(n);
  if (!product_parts(tensor(g, n, 0), tensor(g, n, 1), result(g, n), out, c.needs[0], c.needs[1])) return std::nullopt;
  return c;
}

/// added, a, b: addmm and baddbmm.
MaybeCut addmm(const Graph& g, const Node& n, const Part& out) {
  const Tensor& y = result(g, n);
  Cut c = whole_cut(n);
  const auto added = aligned(tensor(g, n, 0), y.dim(), y.size(out.dim), out);
  if (!added || !product_parts(tensor(g, n, 1), tensor(g, n, 2), y, out, c.needs[1], c.needs[2])) return std::nullopt;
  c.needs[0] = *added;
  return c;
}

/// The letter of the cut dimension, in every operand that has it.
MaybeCut einsum(const Graph&, const Node& n, const Part& out) {
  std::string equation = plain(n, 0).toStringRef();
  equation.erase(std::remove(equation.begin(), equation.end(), ' '), equation.end());
  const size_t arrow = equation.find("->");
  if (arrow == std::string::npos || equation.find('.') != std::string::npos) return std::nullopt;
  const char letter = equation[arrow + 2 + static_cast<size_t>(out.dim)];
  Cut c = whole_cut(n);
  size_t begin = 0;
  for (Part& need : c.needs) {
    const size_t end = std::min(equation.find(',', begin), arrow);
    const size_t found = equation.substr(begin, end - begin).find(letter);
    if (found != std::string::npos) need = on(out, static_cast<int>(found));
    begin = end + 1;
  }
  return c;
}

/// x, normalized_shape, weight, bias.
MaybeCut layer_norm(const Graph& g, const Node& n, const Part& out) {
  if (out.dim >= result(g, n).dim() - static_cast<int64_t>(plain(n, 1).toIntVector().size())) return std::nullopt;
  Cut c = whole_cut(n);
  c.needs[0] = out;
  return c;
}

/// x, weight, bias, scale, shift: the last two broadcast.
MaybeCut modulated_norm(const Graph& g, const Node& n, const Part& out) {
  const Tensor& y = result(g, n);
  if (out.dim == y.dim() - 1) return std::nullopt;
  Cut c = whole_cut(n);
  c.needs[0] = out;
  for (const size_t i : {size_t{3}, size_t{4}}) {
    if (!has_tensor(n, i)) continue;
    const auto part = aligned(tensor(g, n, i), y.dim(), y.size(out.dim), out);
    if (!part) return std::nullopt;
    c.needs[read_index(n, i)] = *part;
  }
  return c;
}

/// x, weight.
MaybeCut last_dim_norm(const Graph& g, const Node& n, const Part& out) {
  if (out.dim == result(g, n).dim() - 1) return std::nullopt;
  Cut c = whole_cut(n);
  c.needs[0] = out;
  return c;
}

/// x [..., A, N, D], weight, bias, eps, cos and sin [N, D/2] or [B, 1, N, D/2].
MaybeCut norm_rotary(const Graph& g, const Node& n, const Part& out) {
  MaybeCut c = last_dim_norm(g, n, out);
  const Tensor& y = result(g, n);
  for (const size_t i : {size_t{4}, size_t{5}}) {
    if (!c || !has_tensor(n, i)) continue;
    const auto part = aligned(tensor(g, n, i), y.dim(), y.size(out.dim), out);
    if (!part) return std::nullopt;
    c->needs[read_index(n, i)] = *part;
  }
  return c;
}

/// x, dim: of x's sizes, every other dim passes.
MaybeCut along_dim(const Graph& g, const Node& n, const Part& out) {
  if (out.dim == dim_of(plain(n, 1), result(g, n).dim())) return std::nullopt;
  Cut c = whole_cut(n);
  c.needs[0] = out;
  return c;
}

/// x, dims, ...: those dims are gone, or 1 where kept (the sizes tell which).
MaybeCut reduction(const Graph& g, const Node& n, const Part& out) {
  const Tensor &x = tensor(g, n, 0), &y = result(g, n);
  const c10::IValue& v = plain(n, 1);
  if (v.isNone()) return std::nullopt;
  const Sizes dims = v.isInt() ? Sizes{v.toInt()} : v.toIntVector();
  if (dims.empty()) return std::nullopt;
  std::vector<bool> is_gone(static_cast<size_t>(x.dim()));
  for (const int64_t d : dims) is_gone[static_cast<size_t>(at::maybe_wrap_dim(d, x.dim()))] = true;
  int left = y.dim() == x.dim() ? -1 : out.dim, dim = out.dim;
  for (size_t d = 0; left >= 0 && d < is_gone.size(); ++d) {
    if (!is_gone[d] && left-- == 0) dim = static_cast<int>(d);
  }
  if (is_gone[static_cast<size_t>(dim)]) return std::nullopt;
  Cut c = whole_cut(n);
  c.needs[0] = on(out, dim);
  return c;
}

/// q [..., N, D], k, v, mask. Of LibTorch's own: dropout, is_causal, scale, enable_gqa behind.
MaybeCut attention(const Graph& g, const Node& n, const Part& out) {
  const Tensor &q = tensor(g, n, 0), &k = tensor(g, n, 1), &y = result(g, n);
  if (plain(n, 4).isDouble() && n.arguments.size() > 5 && (plain(n, 4).toDouble() != 0 || plain(n, 5).toBool())) {
    return std::nullopt;
  }
  const int64_t from_end = y.dim() - out.dim;
  if (from_end == 1) return std::nullopt;
  Cut c = whole_cut(n);
  c.needs[0] = out;
  if (from_end > 2) {
    if (k.dim() != q.dim() || k.size(out.dim) != q.size(out.dim)) return std::nullopt;
    c.needs[1] = c.needs[2] = out;
  }
  if (has_tensor(n, 3)) {
    const auto part = aligned(tensor(g, n, 3), y.dim(), y.size(out.dim), out);
    if (!part) return std::nullopt;
    c.needs[3] = *part;
  }
  return c;
}

/// q [B, A, N, D], k and v [A, keys, D].
MaybeCut attention_packed(const Graph&, const Node& n, const Part& out) {
  if (out.dim != 1 && out.dim != 2) return std::nullopt;
  Cut c = whole_cut(n);
  c.needs[0] = out;
  if (out.dim == 1) c.needs[1] = c.needs[2] = on(out, 0);
  return c;
}

/// table [rows, width], indices.
MaybeCut embedding(const Graph& g, const Node& n, const Part& out) {
  Cut c = whole_cut(n);
  if (out.dim == result(g, n).dim() - 1) {
    c.needs[0] = on(out, 1);
  } else {
    c.needs[1] = out;
  }
  return c;
}

/// x, dim, indices.
MaybeCut index_select(const Graph& g, const Node& n, const Part& out) {
  Cut c = whole_cut(n);
  if (out.dim == dim_of(plain(n, 1), tensor(g, n, 0).dim())) {
    c.needs[1] = on(out, 0);
  } else {
    c.needs[0] = out;
  }
  return c;
}

/// Without tensors: it is made once, before the pieces.
MaybeCut factory(const Graph&, const Node&, const Part&) { return std::nullopt; }

}  // namespace kinora::graph
