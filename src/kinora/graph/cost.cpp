#include "kinora/graph/cost.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>

#include "kinora/base/error.h"
#include "kinora/graph/rule_parts.h"
#include "kinora/ops/conv.h"
#include "kinora/ops/tiles.h"

namespace kinora::graph {
namespace {

double rate_of(Work work, const Machine& m) {
  if (work == Work::attention) return m.attention_flops;
  return work == Work::convolution ? m.convolution_flops : m.product_flops;
}

double seconds_of(const Graph& graph, const Node& node, double share, double bytes, const Machine& m) {
  if (!node.rule) return m.seconds_per_call + bytes / m.bytes_per_second;
  const Work work = node.rule->work;
  if (work == Work::view) return m.seconds_per_call / 4;
  const double moved = bytes / m.bytes_per_second;
  if (work == Work::move) return m.seconds_per_call + moved;
  return m.seconds_per_call + moved + share * flops(graph, node) / rate_of(work, m);
}

/// Best of a few, each long enough to be timed.
template <typename F>
double time_of(const F& f) {
  using Clock = std::chrono::steady_clock;
  f();
  double best = 1e9;
  for (int round = 0; round < 3; ++round) {
    int calls = 0;
    const auto start = Clock::now();
    double passed = 0;
    while (passed < 0.03) {
      f(), ++calls;
      passed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    best = std::min(best, passed / calls);
  }
  return best;
}

}  // namespace

int64_t bytes_of(const Value& value, const Part& part) {
  const int64_t all = bytes_of(value);
  if (part.is_whole()) return all;
  const int64_t size = value.twin.size(part.dim);
  return size == 0 ? 0 : all / size * part.length();
}

namespace {

/// Whether part `need` of what is there of a tensor, `has`, is no block of memory.
bool lies_apart(const Tensor& t, const Part& need, const Part& has) {
  if (!t.is_contiguous(t.suggest_memory_format())) return true;
  return !(need == has) && c10::multiply_integers(t.sizes().slice(0, static_cast<size_t>(need.dim))) > 1;
}

}  // namespace

bool lays_out_tiles(const Graph& graph, const Node& node) {
  const Tensor &q = tensor(graph, node, 0), &k = tensor(graph, node, 1);
  return ops::multiplies_tiles(q.scalar_type()) && std::min(q.size(-2), k.size(-2)) >= kQueriesForTiles;
}

namespace {

/// LibTorch's fused attention: for each thread the scores of some queries against up to 512 keys and what they come to,
/// and a number for every query. Where the processor multiplies tiles (AMX), keys and values are laid out for it first, and
/// once more those that a thread is at. Few keys of narrow heads take a kernel of ours that needs none of it
/// (ops/attention.h). Measured with LibTorch 2.11.
int64_t attention_scratch(const Graph& graph, const Node& node, const Step& step) {
  const Part& out = step.out;
  const Tensor &q = tensor(graph, node, 0), &k = tensor(graph, node, 1);
  const int64_t y = bytes_of(graph.value(node.results[0]), out), width = q.size(-1);
  int64_t keys = k.size(-2), copied = 0;
  int64_t laid_out =
      bytes_of(graph.value(node.reads[1]), step.cut.needs[1]) + bytes_of(graph.value(node.reads[2]), step.cut.needs[2]);
  if (node.name() == "kinora::attention_packed") {
    const Sizes lengths = plain(node, 3).toIntVector();
    const auto [least, most] = std::minmax_element(lengths.begin(), lengths.end());
    if (*least < *most)
      copied = y / q.size(0), laid_out = laid_out / std::max<int64_t>(1, keys) * *most;  // one sample after the other
    keys = *most;
  }
  if (node.name() != "aten::scaled_dot_product_attention" && keys <= 64 && width <= 64) return 0;
  const int64_t queries = out.dim == q.dim() - 2 && !out.is_whole() ? out.length() : q.size(-2);
  const bool has_tiles = lays_out_tiles(graph, node) && std::min(queries, keys) >= kQueriesForTiles;
  keys = std::min<int64_t>(keys, 512);
  const auto element = static_cast<int64_t>(q.itemsize()), wide = std::max<int64_t>(element, 4);
  const int64_t at_once = std::min<int64_t>(queries, queries >= 768 ? 256 : queries >= 192 ? 64 : 32);
  const int64_t each = at_once * (wide * (keys + 2 + width) + (element < wide ? element * keys : 0));
  const int64_t of_tiles = has_tiles ? laid_out + at::get_num_threads() * keys * width * element : 0;
  return at::get_num_threads() * each + y / (element * width) * wide + copied + of_tiles;
}

/// oneDNN's matrix products of bfloat16: for each thread 64 columns of up to 1024 rows of the right side, and sums in
/// float32 of up to 256 rows. A linear layer of what is no matrix in memory makes one of it, or of its result, first;
/// without a bias also of rows of a single sample, whose strides it takes literally. Measured with LibTorch 2.11.
int64_t product_scratch(const Graph& graph, const Node& node, const Part& need, const Part& has, int64_t y) {
  const Tensor& like = graph.value(node.results[0]).twin;
  const bool is_onednn = like.scalar_type() == at::kBFloat16 && ops::conv_dtype(at::kBFloat16) == at::kBFloat16;
  if (!is_onednn || node.name() == "aten::einsum") return 0;
  const Tensor& x = tensor(graph, node, node.name() == "aten::addmm" || node.name() == "aten::baddbmm" ? 1 : 0);
  const bool is_linear = node.name().find("linear") != std::string::npos && like.dim() > 2;
  const bool has_bias = node.reads.size() > 2 && node.reads[2] >= 0;
  const bool is_laid_out = is_linear && (lies_apart(x, need, has) || (!has_bias && !need.is_whole() && need.dim > 0));
  const int64_t rows = is_laid_out ? 256 : y / std::max<int64_t>(1, like.size(-1) * like.itemsize());
  const int64_t each = 64 * (2 * std::min<int64_t>(x.size(-1), 1024) + 4 * std::min<int64_t>(rows, 256));
  return at::get_num_threads() * each + (is_laid_out ? std::max(bytes_of(graph.value(node.reads[0]), need), y) : 0);
}

}  // namespace

int64_t scratch_bytes(const Graph& graph, const Step& step, const Part& has) {
  const Node& node = graph.node(step.node);
  if (!node.rule || node.results.empty()) return 0;
  const auto of = [&](size_t read) {
    const bool is_there = read < node.reads.size() && node.reads[read] >= 0;
    return is_there ? bytes_of(graph.value(node.reads[read]), step.cut.needs[read]) : 0;
  };
  const Value& result = graph.value(node.results[0]);
  const int64_t y = bytes_of(result, step.out);
  if (node.rule->work == Work::attention) return attention_scratch(graph, node, step);
  if (node.rule->work == Work::product) return product_scratch(graph, node, step.cut.needs[0], has, y);
  if (node.rule->work == Work::convolution)
    return std::max((lies_apart(tensor(graph, node, 0), step.cut.needs[0], has) ? 2 : 1) * of(0) + of(1),
                    (ops::multiplies_tiles(result.twin.scalar_type()) ? 2 : 1) * y);
  if (node.name().starts_with("aten::upsample")) return of(0) + y;
  if (step.cut.is_two_pass) return 2 * y;  // rows of a piece in one block for the moments; the activation
  return node.name() == "kinora::group_norm" && plain(node, 5).toInt() != 0 ? y : 0;
}

int64_t scratch_bytes(const Graph& graph, int node) {
  return scratch_bytes(graph, {node, {}, whole_cut(graph.node(node))}, {});
}

double seconds(const Graph& graph, const Node& node, const Machine& machine) {
  double bytes = 0;
  for (const int id : node.reads) bytes += id < 0 ? 0.0 : static_cast<double>(bytes_of(graph.value(id)));
  for (const int id : node.results) bytes += static_cast<double>(bytes_of(graph.value(id)));
  return seconds_of(graph, node, 1, bytes, machine);
}

double seconds(const Graph& graph, const Step& step, const Machine& machine) {
  const Node& node = graph.node(step.node);
  double bytes = 0;
  for (size_t i = 0; i < node.reads.size(); ++i) {
    if (node.reads[i] >= 0) bytes += static_cast<double>(bytes_of(graph.value(node.reads[i]), step.cut.needs[i]));
  }
  for (const int id : node.results) bytes += static_cast<double>(bytes_of(graph.value(id), step.out));
  const auto whole = static_cast<double>(graph.value(node.results[0]).twin.size(step.out.dim));
  return seconds_of(graph, node, static_cast<double>(step.out.length()) / whole, bytes, machine);
}

Machine measure_machine(at::ScalarType dtype) {
  at::NoGradGuard no_grad;
  const auto options = at::TensorOptions(dtype);
  Machine m;
  const Tensor tiny = at::ones({16}, options);
  m.seconds_per_call = time_of([&] { at::add(tiny, tiny); });
  const Tensor large = at::ones({1 << 22}, options);
  m.bytes_per_second = 3.0 * static_cast<double>(large.nbytes()) / time_of([&] { at::add(large, large); });
  const Tensor x = at::ones({1024, 768}, options), w = at::ones({768, 768}, options);
  m.product_flops = 2.0 * 1024 * 768 * 768 / time_of([&] { at::linear(x, w); });
  const Tensor q = at::ones({1, 8, 1024, 64}, options);
  m.attention_flops = 4.0 * 8 * 1024 * 1024 * 64 / time_of([&] { at::scaled_dot_product_attention(q, q, q); });
  const Tensor picture = at::ones({1, 64, 64, 64}, options), kernel = at::ones({64, 64, 3, 3}, options);
  m.convolution_flops = 2.0 * 64 * 64 * 64 * 64 * 9 / time_of([&] { at::conv2d(picture, kernel, {}, 1, 1); });
  return m;
}

}  // namespace kinora::graph
