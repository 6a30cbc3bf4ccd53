#include "kinora/graph/ir.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/graph/rules.h"

namespace kinora::graph {

int64_t bytes_of(const Value& value) { return value.twin.numel() * static_cast<int64_t>(value.twin.itemsize()); }

void finish(Graph& graph) {
  const int end = graph.size();
  for (Node& node : graph.nodes) node.rule = find_rule(node);
  for (Value& v : graph.values) v.def = -1, v.last_use = -1, v.is_output = false;
  for (int i = 0; i < end; ++i) {
    for (const int id : graph.node(i).results) {
      Value& v = graph.values[static_cast<size_t>(id)];
      if (v.def < 0 && !v.constant.defined()) v.def = i;
      v.last_use = i;
    }
    for (const int id : graph.node(i).reads) {
      if (id >= 0) graph.values[static_cast<size_t>(id)].last_use = i;
    }
  }
  for (const int id : graph.inputs) {
    if (id >= 0) graph.values[static_cast<size_t>(id)].def = -1;
  }
  for (const int id : graph.outputs) {
    graph.values[static_cast<size_t>(id)].is_output = true;
    graph.values[static_cast<size_t>(id)].last_use = end;
  }
  graph.storages.assign(graph.values.size(), {});
  for (size_t id = 0; id < graph.values.size(); ++id) {
    const Value& v = graph.values[id];
    Storage& s = graph.storages[static_cast<size_t>(v.root)];
    if (static_cast<size_t>(v.root) == id) {
      s.bytes = static_cast<int64_t>(v.twin.storage().nbytes());
      s.def = v.def;
      s.is_fixed = v.def < 0;
    }
    s.last_use = std::max(s.last_use, v.last_use);
  }
  for (size_t i = 0; i < graph.given; ++i) {
    if (graph.inputs[i] >= 0) graph.storages[static_cast<size_t>(graph.value(graph.inputs[i]).root)].is_fixed = false;
  }
  for (size_t i = graph.outputs.size(); i-- > 0;)  // the first have the last word
    graph.storages[static_cast<size_t>(graph.value(graph.outputs[i]).root)].is_counted = i < graph.counted;
  for (const Node& node : graph.nodes) {
    for (const int id : node.writes) graph.storages[static_cast<size_t>(graph.value(id).root)].is_written_later = true;
  }
}

std::vector<int64_t> live_bytes(const Graph& graph) {
  std::vector<int64_t> change(graph.nodes.size() + 1, 0);
  for (size_t id = 0; id < graph.values.size(); ++id) {
    const Storage& s = graph.storages[id];
    if (static_cast<size_t>(graph.values[id].root) != id || s.is_fixed || !s.is_counted) continue;
    change[static_cast<size_t>(std::max(s.def, 0))] += s.bytes;
    if (s.last_use < graph.size()) change[static_cast<size_t>(s.last_use) + 1] -= s.bytes;
  }
  std::vector<int64_t> live(graph.nodes.size());
  int64_t now = 0;
  for (size_t i = 0; i < live.size(); ++i) live[i] = now += change[i];
  return live;
}

std::string text_of(const Graph& graph) {
  std::string out;
  for (const Node& node : graph.nodes) {
    for (const int id : node.results) out += concat(id == node.results.front() ? "" : ", ", "%", id);
    out += concat(" = ", node.name(), node.op.schema().overload_name().empty() ? "" : ".",
                  node.op.schema().overload_name(), "(");
    for (size_t i = 0; i < node.arguments.size(); ++i) {
      const Argument& a = node.arguments[i];
      if (i > 0) out += ", ";
      if (a.form == Argument::Form::plain) out += concat(a.plain);
      if (a.form == Argument::Form::one) out += concat("%", a.ids[0]);
      if (a.form == Argument::Form::list || a.form == Argument::Form::optionals) {
        out += "[";
        for (const int id : a.ids) out += concat(" %", id);
        out += " ]";
      }
    }
    out += ")";
    for (const int id : node.results) out += concat(" ", graph.value(id).twin.sizes());
    out += "\n";
  }
  return out;
}

}  // namespace kinora::graph
