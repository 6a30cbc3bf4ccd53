#include "kinora/graph/hash.h"

#include <algorithm>
#include <functional>
#include <string>

#include "kinora/base/error.h"

namespace kinora::graph {
namespace {

/// Which weight of which source a layer names tells nothing of its structure: equal blocks differ in nothing else.
bool names_a_weight(const c10::Argument& a) { return a.name() == "source" || a.name() == "weight_id"; }

/// FNV-1a: the same in every build and process, for hashes that are kept in files.
uint64_t hash_text(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

uint64_t hash_value(const Value& v) {
  uint64_t hash = static_cast<uint64_t>(v.twin.scalar_type());
  for (const int64_t n : v.twin.sizes()) hash = mix(hash, static_cast<uint64_t>(n));
  for (const int64_t n : v.twin.strides()) hash = mix(hash, static_cast<uint64_t>(n) + 1);
  return mix(hash, v.constant.defined());
}

}  // namespace

std::vector<uint64_t> node_hashes(const Graph& graph) {
  std::vector<uint64_t> out;
  for (const Node& node : graph.nodes) {
    uint64_t hash = hash_text(concat(node.name(), ".", node.op.schema().overload_name()));
    for (size_t i = 0; i < node.arguments.size(); ++i) {
      const Argument& a = node.arguments[i];
      hash = mix(hash, static_cast<uint64_t>(a.form));
      const bool counts = a.form == Argument::Form::plain && !names_a_weight(node.op.schema().arguments()[i]);
      if (counts) hash = mix(hash, hash_text(concat(a.plain)));
    }
    for (const int id : node.reads) hash = mix(hash, id < 0 ? 7 : hash_value(graph.value(id)));
    for (const int id : node.results) hash = mix(hash, hash_value(graph.value(id)));
    out.push_back(hash);
  }
  return out;
}

RangeHash::RangeHash(const Graph& graph, const std::vector<uint64_t>& nodes, int begin, int most)
    : graph_(graph), nodes_(nodes), begin_(begin), next_(begin), most_(most) {}

int RangeHash::local(int id) {
  const auto found = std::find(seen_.rbegin(), seen_.rend(), id);
  if (found != seen_.rend()) return static_cast<int>(seen_.rend() - found) - 1;
  seen_.push_back(id);
  // What matters of a value besides its shape: whether it comes from outside, what storage it shares, how long it and
  // that storage are needed.
  const Value& v = graph_.value(id);
  const Storage& s = graph_.storage_of(id);
  const auto reach = [&](int last) { return static_cast<uint64_t>(std::min(last - begin_, most_ + 1)); };
  hash_ = mix(hash_, v.def < begin_ ? 1 : 2);
  hash_ = mix(hash_, reach(v.last_use));
  hash_ = mix(hash_, reach(s.last_use));
  hash_ = mix(hash_,
              (s.is_fixed ? 1 : 0) + (s.is_written_later ? 2 : 0) + (s.def < begin_ ? 4 : 0) + (s.is_counted ? 0 : 8));
  hash_ = mix(hash_, static_cast<uint64_t>(s.bytes));
  const int root = v.root == id ? -1 : local(v.root);
  hash_ = mix(hash_, static_cast<uint64_t>(root + 2));
  return static_cast<int>(std::find(seen_.begin(), seen_.end(), id) - seen_.begin());
}

uint64_t RangeHash::next() {
  const Node& node = graph_.node(next_);
  hash_ = mix(hash_, nodes_[static_cast<size_t>(next_)]);
  const auto add = [&](int id) {
    const uint64_t name = id < 0 ? 3 : static_cast<uint64_t>(local(id)) + 11;  // first: local() adds to the hash itself
    hash_ = mix(hash_, name);
  };
  for (const int id : node.reads) add(id);
  for (const int id : node.results) add(id);
  ++next_;
  return hash_;
}

uint64_t hash_of(const Graph& graph) {
  const auto nodes = node_hashes(graph);
  RangeHash range(graph, nodes, 0, graph.size());
  uint64_t hash = 1;
  for (int i = 0; i < graph.size(); ++i) hash = range.next();
  hash = mix(hash, graph.given);
  for (const std::vector<int>& some : {graph.inputs, graph.outputs}) {
    for (const int id : some) hash = mix(hash, static_cast<uint64_t>(id + 1));
  }
  return hash;
}

}  // namespace kinora::graph
