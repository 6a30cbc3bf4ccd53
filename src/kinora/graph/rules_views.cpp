// Rules of operators that move or name elements: views, slices, joins, padding.
#include <algorithm>
#include <numeric>

#include "kinora/graph/rule_parts.h"

namespace kinora::graph {
namespace {

int64_t product(at::IntArrayRef sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

/// Where the rows `out` of a reshaped tensor come from. Dims correspond when the products of the sizes before them are
/// equal; of merged or split dims the outermost can be cut, at whole multiples of what lies inside it.
std::optional<Part> reshaped(at::IntArrayRef in, at::IntArrayRef y, const Part& out) {
  const auto d = static_cast<size_t>(out.dim);
  const int64_t before = product(y.slice(0, d)), size = y[d];
  for (size_t a = 0; a < in.size(); ++a) {
    if (product(in.slice(0, a)) != before || in[a] == 1) continue;
    if (in[a] == size) return on(out, static_cast<int>(a));
    if (in[a] > size && in[a] % size == 0) {  // split: the outermost of what became of it
      const int64_t inner = in[a] / size;
      return Part{static_cast<int>(a), out.begin * inner, out.end * inner};
    }
    const int64_t inner = size / in[a];
    if (size % in[a] == 0 && out.begin % inner == 0 && out.end % inner == 0) {  // merged
      return Part{static_cast<int>(a), out.begin / inner, out.end / inner};
    }
  }
  return std::nullopt;
}

MaybeCut reshaped_cut(const Graph& g, const Node& n, const Part& out) {
  const auto part = reshaped(tensor(g, n, 0).sizes(), result(g, n).sizes(), out);
  if (!part) return std::nullopt;
  Cut c = whole_cut(n);
  c.needs[0] = *part;
  return c;
}

MaybeCut from_dim(const Node& n, const Part& out, int dim) {
  Cut c = whole_cut(n);
  c.needs[0] = on(out, dim);
  return c;
}

}  // namespace

/// x, size.
MaybeCut view(const Graph& g, const Node& n, const Part& out) {
  if (!plain(n, 1).isIntList()) return std::nullopt;  // as another dtype
  MaybeCut c = reshaped_cut(g, n, out);
  if (!c) return c;
  Sizes sizes = result(g, n).sizes().vec();
  sizes[static_cast<size_t>(out.dim)] = out.length();
  c->rewrites.emplace_back(1, c10::IValue(sizes));
  return c;
}

MaybeCut flatten(const Graph& g, const Node& n, const Part& out) { return reshaped_cut(g, n, out); }

/// x, dim, sizes.
MaybeCut unflatten(const Graph& g, const Node& n, const Part& out) {
  MaybeCut c = reshaped_cut(g, n, out);
  if (!c) return c;
  const int first = dim_of(plain(n, 1), tensor(g, n, 0).dim());
  const auto count = static_cast<int>(plain(n, 2).toIntVector().size());
  Sizes sizes = result(g, n).sizes().slice(static_cast<size_t>(first), static_cast<size_t>(count)).vec();
  if (out.dim >= first && out.dim < first + count) {
    sizes[static_cast<size_t>(out.dim - first)] = out.length();
    c->rewrites.emplace_back(2, c10::IValue(sizes));
  }
  return c;
}

MaybeCut permute(const Graph& g, const Node& n, const Part& out) {
  return from_dim(n, out,
                  static_cast<int>(
                      at::maybe_wrap_dim(plain(n, 1).toIntVector()[static_cast<size_t>(out.dim)], result(g, n).dim())));
}

MaybeCut transpose(const Graph& g, const Node& n, const Part& out) {
  const int64_t dims = result(g, n).dim();
  if (n.arguments.size() < 3) return from_dim(n, out, dims == 2 ? 1 - out.dim : out.dim);  // t
  const int a = dim_of(plain(n, 1), dims), b = dim_of(plain(n, 2), dims);
  return from_dim(n, out, out.dim == a ? b : out.dim == b ? a : out.dim);
}

MaybeCut unsqueeze(const Graph& g, const Node& n, const Part& out) {
  const int added = dim_of(plain(n, 1), result(g, n).dim());
  if (out.dim == added) return std::nullopt;
  return from_dim(n, out, out.dim < added ? out.dim : out.dim - 1);
}

/// One dim, several or all of size 1. A dim of a part may be 1 too: only with dims named it stays what it was.
MaybeCut squeeze(const Graph& g, const Node& n, const Part& out) {
  const Tensor& x = tensor(g, n, 0);
  if (n.arguments.size() < 2 || result(g, n).size(out.dim) == 1) return std::nullopt;
  const Sizes dims = plain(n, 1).isInt() ? Sizes{plain(n, 1).toInt()} : plain(n, 1).toIntVector();
  int left = out.dim;
  for (int64_t d = 0; d < x.dim(); ++d) {
    const bool is_named =
        std::any_of(dims.begin(), dims.end(), [&](int64_t k) { return at::maybe_wrap_dim(k, x.dim()) == d; });
    if (is_named && x.size(d) == 1) continue;
    // Named but not gone: a part of one row would go.
    if (left-- == 0) return is_named ? std::nullopt : from_dim(n, out, static_cast<int>(d));
  }
  return std::nullopt;
}

/// select and unbind: a dim is gone.
MaybeCut select(const Graph& g, const Node& n, const Part& out) {
  const int gone = dim_of(plain(n, 1), tensor(g, n, 0).dim());
  return from_dim(n, out, out.dim < gone ? out.dim : out.dim + 1);
}

/// x, dim, start, end, step; or narrow: x, dim, start, length.
MaybeCut slice(const Graph& g, const Node& n, const Part& out) {
  const int dim = dim_of(plain(n, 1), tensor(g, n, 0).dim());
  if (out.dim != dim) return from_dim(n, out, out.dim);
  const bool is_narrow = n.arguments.size() == 4;
  if (!is_narrow && plain(n, 4).toInt() != 1) return std::nullopt;
  if (n.arguments[2].form != Argument::Form::plain) return std::nullopt;
  const int64_t size = tensor(g, n, 0).size(dim);
  int64_t start = plain(n, 2).isNone() ? 0 : plain(n, 2).toInt();
  start = std::clamp(start < 0 ? start + size : start, int64_t{0}, size);
  Cut c = whole_cut(n);
  c.needs[0] = {dim, out.begin + start, out.end + start};
  c.rewrites.emplace_back(2, c10::IValue(int64_t{0}));
  c.rewrites.emplace_back(3, c10::IValue(out.length()));
  return c;
}

/// x, sizes or count, dim: split, split_with_sizes, chunk.
MaybeCut split(const Graph& g, const Node& n, const Part& out) {
  if (out.dim == dim_of(plain(n, 2), tensor(g, n, 0).dim())) return std::nullopt;
  return from_dim(n, out, out.dim);
}

/// tensors, dim: cat, and stack, whose dim is added.
MaybeCut joined(const Graph& g, const Node& n, const Part& out) {
  const Tensor& y = result(g, n);
  const int dim = dim_of(plain(n, 1), y.dim());
  if (out.dim == dim) return std::nullopt;
  const bool is_added = g.value(n.arguments[0].ids[0]).twin.dim() < y.dim();
  Cut c = whole_cut(n);
  for (size_t i = 0; i < c.needs.size(); ++i) {
    if (g.value(n.arguments[0].ids[i]).twin.dim() + is_added != y.dim()) return std::nullopt;
    c.needs[i] = on(out, is_added && out.dim > dim ? out.dim - 1 : out.dim);
  }
  return c;
}

/// x, size (expand, repeat) or x, other (expand_as).
MaybeCut expand(const Graph& g, const Node& n, const Part& out) {
  const Tensor &x = tensor(g, n, 0), &y = result(g, n);
  const auto part = aligned(x, y.dim(), y.size(out.dim), out);
  if (!part) return std::nullopt;
  Cut c = whole_cut(n);
  c.needs[0] = *part;
  if (has_tensor(n, 1)) {
    c.needs[1] = out;
    return c;
  }
  Sizes sizes = plain(n, 1).toIntVector();
  if (part->is_whole()) {
    sizes[static_cast<size_t>(out.dim)] = out.length();
  } else if (n.name() == "aten::expand") {
    sizes[static_cast<size_t>(out.dim)] = -1;
  }
  c.rewrites.emplace_back(1, c10::IValue(sizes));
  return c;
}

/// x, pad (before and behind the last dim, then of the one before it). Rows of padding come from the ends alone.
MaybeCut pad(const Graph& g, const Node& n, const Part& out) {
  const Tensor& x = tensor(g, n, 0);
  const bool has_mode = n.name() == "aten::pad";
  if (has_mode && plain(n, 2).toStringRef() != "constant" && plain(n, 2).toStringRef() != "replicate")
    return std::nullopt;
  Sizes pads = plain(n, 1).toIntVector();
  const auto at = static_cast<size_t>(2 * (x.dim() - 1 - out.dim));
  Cut c = whole_cut(n);
  if (at >= pads.size()) {
    c.needs[0] = out;
    return c;
  }
  const int64_t size = x.size(out.dim), first = out.begin - pads[at], last = out.end - pads[at];
  if (first >= size || last <= 0) return std::nullopt;  // of padding alone
  const int64_t begin = std::max(first, int64_t{0}), end = std::min(last, size);
  c.needs[0] = {out.dim, begin, end};
  pads[at] = begin - first, pads[at + 1] = last - end;
  c.rewrites.emplace_back(1, c10::IValue(pads));
  return c;
}

}  // namespace kinora::graph
