// kinora plot: the trace of a cache as a picture: what was reused where and when, and the change that was measured; or
// memory over time.
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/utf8.h"
#include "kinora/cache/trace.h"
#include "kinora/cli/command.h"
#include "kinora/cli/memory_trace.h"
#include "kinora/media/grid_plot.h"
#include "kinora/media/svg.h"

namespace kinora::cli {
namespace {

struct Options {
  std::string trace, output;
};

struct Mean {
  double sum = 0;
  int64_t count = 0;

  void add(double value) { sum += value, ++count; }
  double value() const { return sum / static_cast<double>(count); }
};

/// Values by name, in the order in which the names came: that of the run.
template <typename Value>
class InOrder {
 public:
  Value& operator[](const std::string& name) {
    const auto [at, is_new] = index_.try_emplace(name, list_.size());
    if (is_new) list_.emplace_back(name, Value{});
    return list_[at->second].second;
  }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }

 private:
  std::map<std::string, size_t> index_;
  std::vector<std::pair<std::string, Value>> list_;
};

struct Kind {
  InOrder<std::map<int64_t, Mean>> sites;  ///< the share that was reused, by call
  std::map<int64_t, Mean> change;          ///< by call
  int64_t decisions = 0, reused = 0;
};

InOrder<Kind> by_kind(const std::vector<cache::TracedDecision>& trace) {
  InOrder<Kind> kinds;
  for (const cache::TracedDecision& d : trace) {
    Kind& kind = kinds[d.what];
    ++kind.decisions, kind.reused += d.reused;
    kind.sites[d.path.empty() ? d.what : d.path][d.call].add(d.reused ? 1 : 0);
    if (std::isfinite(d.change)) kind.change[d.call].add(d.change);
  }
  return kinds;
}

std::string counted(const std::string& what, int64_t reused, int64_t decisions) {
  return concat(what, ": ", reused, " of ", decisions, " reused");
}

media::GridPlot plot_of(const std::vector<cache::TracedDecision>& trace, const std::string& name) {
  media::GridPlot plot{.x_label = "model call", .notes_label = "timestep", .y_label = "measured change"};
  int64_t reused = 0;
  for (const cache::TracedDecision& d : trace) {
    reused += d.reused;
    plot.notes.try_emplace(d.call, concat(std::round(d.timestep * 10) / 10));
  }
  plot.title = counted(name, reused, static_cast<int64_t>(trace.size()));
  for (const auto& [what, kind] : by_kind(trace)) {
    media::GridGroup& group = plot.groups.emplace_back();
    group.label = counted(what, kind.reused, kind.decisions);
    for (const auto& [site, calls] : kind.sites) {
      media::GridRow& row = group.rows.emplace_back();
      row.label = site;
      for (const auto& [call, share] : calls) row.reused[call] = share.value();
    }
    if (kind.change.empty()) continue;
    media::Series& curve = plot.curves.emplace_back();
    curve.label = what;
    for (const auto& [call, change] : kind.change)
      curve.x.push_back(static_cast<double>(call)), curve.y.push_back(change.value());
  }
  return plot;
}

std::string memory_plot(const std::vector<MemoryTrace>& traces) {
  media::LinePlot plot{
      .title = "Activations while one call runs", .x_label = "milliseconds of the processor", .y_label = "MB"};
  for (const MemoryTrace& trace : traces) {
    media::Series& series = plot.series.emplace_back(media::Series{trace.way, trace.seconds, trace.bytes});
    for (double& x : series.x) x *= 1e3;
    for (double& y : series.y) y *= 1e-6;
  }
  return media::line_plot_svg(plot);
}

int plot(const Options& o) {
  const std::filesystem::path trace = o.trace;
  std::filesystem::path output = o.output;
  if (output.empty()) output = std::filesystem::path(trace).replace_extension(".svg");
  std::error_code ignored;
  if (output == trace || std::filesystem::equivalent(output, trace, ignored))
    throw UsageError("the picture would take the place of the trace", "choose another --output");
  if (output.extension() != ".svg")
    throw UsageError(concat("--output ", printable(output.string(), 200), " is no SVG"), "name it .svg");
  const std::vector<MemoryTrace> memory = read_memory_traces(trace);
  write_file(output, memory.empty() ? media::grid_plot_svg(plot_of(cache::read_trace(trace), trace.filename().string()))
                                    : memory_plot(memory));
  std::cout << output.string() << "\n";
  return 0;
}

}  // namespace

void add_plot(CLI::App& app, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("plot", "draw what a cache decided, or memory over time, from a file of --trace");
  c->footer("Example: kinora plot decisions.jsonl --output decisions.svg");
  c->add_option("trace", o->trace, "the JSON lines that generate --trace or bench chunk --trace wrote")->required();
  c->add_option("-o,--output", o->output, ".svg file (default: the trace's name)");
  c->callback([o, &action] { action = [o](Context&) { return plot(*o); }; });
}

}  // namespace kinora::cli
