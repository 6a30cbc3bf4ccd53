// Rules of operators that look at neighbours: convolutions, group norm, upsampling, pooling.
#include <algorithm>

#include "kinora/graph/rule_parts.h"

namespace kinora::graph {
namespace {

int64_t nth(const c10::IValue& v, size_t i) {
  if (v.isInt()) return v.toInt();
  const Sizes all = v.toIntVector();
  return all.empty() ? 1 : all[std::min(i, all.size() - 1)];
}

struct Window {
  int64_t kernel, stride, padding, dilation;
};

/// Rows of the input that rows `out` of a sliding window need (the halo included), and what must be cut from the
/// result: at the ends the operator pads on both sides, so there more rows come out than are wanted.
/// `keeps_padding`: the result still needs it.
std::optional<Part> windowed(const Window& w, int64_t size, const Part& out, Part& trim, bool& keeps_padding) {
  const int64_t first = out.begin * w.stride - w.padding;
  const int64_t end = (out.end - 1) * w.stride - w.padding + w.dilation * (w.kernel - 1) + 1;
  keeps_padding = first < 0 || end > size;
  if (!keeps_padding) return Part{out.dim, first, end};
  const int64_t lead = (w.padding + w.stride - 1) / w.stride * w.stride;  // rows before, a whole number of strides
  const int64_t begin = std::max(int64_t{0}, out.begin * w.stride - lead);
  if (begin % w.stride != 0 || begin >= size) return std::nullopt;
  trim = {out.dim, out.begin - begin / w.stride, out.begin - begin / w.stride + out.length()};
  return Part{out.dim, begin, std::min(end, size)};
}

bool is_own_conv(const Node& n) { return n.name() == "kinora::conv"; }

}  // namespace

/// x [B, C, ...], weight [out, in, ...], bias, stride, padding, of LibTorch's own also dilation and groups.
MaybeCut conv(const Graph& g, const Node& n, const Part& out) {
  const Tensor &x = tensor(g, n, 0), &weight = tensor(g, n, 1);
  if (x.dim() != weight.dim() || !(plain(n, 4).isIntList() || plain(n, 4).isInt())) return std::nullopt;
  Cut c = whole_cut(n);
  if (out.dim == 0) {
    c.needs[0] = out;
    return c;
  }
  if (out.dim == 1) {
    if (!is_own_conv(n) && plain(n, 6).toInt() != 1) return std::nullopt;
    c.needs[1] = on(out, 0);
    if (has_tensor(n, 2)) c.needs[2] = on(out, 0);
    return c;
  }
  const auto i = static_cast<size_t>(out.dim - 2);
  const Window w{weight.size(out.dim), nth(plain(n, 3), i), nth(plain(n, 4), i),
                 is_own_conv(n) ? 1 : nth(plain(n, 5), i)};
  bool keeps_padding = false;
  const auto part = windowed(w, x.size(out.dim), out, c.trim, keeps_padding);
  if (!part) return std::nullopt;
  c.needs[0] = *part;
  if (!keeps_padding && w.padding > 0) {
    Sizes padding;
    for (size_t d = 0; d + 2 < static_cast<size_t>(x.dim()); ++d) padding.push_back(d == i ? 0 : nth(plain(n, 4), d));
    c.rewrites.emplace_back(4, c10::IValue(padding));
  }
  return c;
}

/// x [B, C, ...], groups, weight [C], bias [C].
MaybeCut group_norm(const Graph& g, const Node& n, const Part& out) {
  const int64_t group = tensor(g, n, 0).size(1) / plain(n, 1).toInt();
  Cut c = whole_cut(n);
  c.needs[0] = out;
  if (out.dim == 1) {
    if (out.begin % group != 0 || out.end % group != 0) return std::nullopt;
    for (const size_t i : {size_t{2}, size_t{3}}) {
      if (has_tensor(n, i)) c.needs[read_index(n, i)] = on(out, 0);
    }
    c.rewrites.emplace_back(1, c10::IValue(out.length() / group));
  }
  c.is_two_pass = out.dim > 1;
  return c;
}

/// x [B, C, ...], output_size: nearest neighbours, by whole factors.
MaybeCut upsample(const Graph& g, const Node& n, const Part& out) {
  const Tensor &x = tensor(g, n, 0), &y = result(g, n);
  Cut c = whole_cut(n);
  c.needs[0] = out;
  if (out.dim < 2) return c;
  const int64_t factor = y.size(out.dim) / x.size(out.dim);
  const bool is_whole = factor > 0 && factor * x.size(out.dim) == y.size(out.dim);
  if (!is_whole || out.begin % factor != 0 || out.end % factor != 0) return std::nullopt;
  c.needs[0] = {out.dim, out.begin / factor, out.end / factor};
  if (plain(n, 1).isIntList()) {
    Sizes sizes = plain(n, 1).toIntVector();
    sizes[static_cast<size_t>(out.dim - 2)] = out.length();
    c.rewrites.emplace_back(1, c10::IValue(sizes));
  }
  return c;
}

/// x [B, C, ...], kernel, stride, padding: windows without padding.
MaybeCut pool(const Graph& g, const Node& n, const Part& out) {
  const Tensor& x = tensor(g, n, 0);
  Cut c = whole_cut(n);
  c.needs[0] = out;
  const int64_t leading = x.dim() - 2;
  if (out.dim < leading) return c;
  const auto i = static_cast<size_t>(out.dim - leading);
  const int64_t kernel = nth(plain(n, 1), i);
  const int64_t stride = plain(n, 2).toIntVector().empty() ? kernel : nth(plain(n, 2), i);
  const int64_t end = (out.end - 1) * stride + kernel;
  if (nth(plain(n, 3), i) != 0 || end > x.size(out.dim)) return std::nullopt;
  c.needs[0] = {out.dim, out.begin * stride, end};
  return c;
}

}  // namespace kinora::graph
