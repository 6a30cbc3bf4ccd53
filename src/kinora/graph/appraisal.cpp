#include "kinora/graph/appraisal.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "kinora/base/error.h"
#include "kinora/graph/rule_parts.h"

namespace kinora::graph {

namespace {
constexpr int64_t kLeastTail = 8;       // rows; fewer may take another kernel
constexpr int64_t kVectorsBytes = 128;  // two of AVX-512
}  // namespace

double Appraisal::seconds(int64_t chunk) const {
  const double pieces = std::ceil(static_cast<double>(length) / static_cast<double>(chunk));
  return fixed_seconds + pieces * call_seconds + static_cast<double>(length) * row_seconds;
}

double Appraisal::bytes(int64_t chunk) const {
  double of_piece = 0;
  for (const Line& line : loop_bytes) of_piece = std::max(of_piece, line.at(chunk));
  return std::max(static_cast<double>(before_bytes), static_cast<double>(fixed_bytes) + of_piece);
}

int64_t Appraisal::with_tail(int64_t chunk) const {
  for (; chunk >= align; chunk -= align) {
    const int64_t rest = length % chunk;
    if (rest == 0 || rest >= tail) return chunk;
  }
  return 0;
}

int64_t Appraisal::smallest_chunk() const {
  for (int64_t chunk = align; chunk < length; chunk += align) {
    if (with_tail(chunk) == chunk) return chunk;
  }
  return 0;
}

int64_t Appraisal::chunk_within(double bytes) const {
  const double room = bytes - static_cast<double>(fixed_bytes);
  if (room <= 0 || bytes < static_cast<double>(before_bytes)) return 0;
  auto rows = static_cast<double>(length - 1);
  for (const Line& line : loop_bytes) {
    if (line.base >= room) return 0;
    if (line.per_row > 0) rows = std::min(rows, (room - line.base) / line.per_row);
  }
  const auto most = static_cast<int64_t>(rows);
  const int64_t largest = with_tail(most / align * align);
  if (largest == 0) return 0;
  // Pieces of equal size: as many as with the largest.
  const int64_t pieces = (length + largest - 1) / largest;
  const int64_t even = with_tail(((length + pieces - 1) / pieces + align - 1) / align * align);
  return even > 0 && even <= largest && (length + even - 1) / even == pieces ? even : largest;
}

std::vector<std::pair<int, int>> donations(const Graph& graph, const Region& region, const Course& course) {
  std::vector<std::pair<int, int>> pairs;
  if (region.kind != RegionKind::rows) return pairs;
  std::vector<int> taken;
  for (const Course::Output& output : course.outputs) {
    const Value& y = graph.value(output.value);
    std::map<int, bool> candidates;  // by value: still fits
    for (const Step& step : course.steps) {
      const Node& node = graph.node(step.node);
      for (size_t i = 0; i < node.reads.size(); ++i) {
        const int id = node.reads[i];
        if (id < 0 || graph.value(id).def >= region.begin || graph.storage_of(id).is_fixed) continue;
        const Value& x = graph.value(id);
        const Storage& s = graph.storage_of(id);
        const bool fits = x.root == id && s.last_use < region.end && !s.is_written_later && bytes_of(x) == s.bytes &&
                          x.twin.sizes() == y.twin.sizes() && x.twin.strides() == y.twin.strides() &&
                          x.twin.scalar_type() == y.twin.scalar_type() && step.cut.needs[i] == output.part;
        const auto known = candidates.emplace(x.root, true).first;
        known->second = known->second && fits && graph.value(x.root).twin.sizes() == y.twin.sizes();
        if (x.root != id) known->second = false;
      }
    }
    for (const int i : course.hoisted) {
      for (const int id : graph.node(i).reads) {
        if (id >= 0) candidates[graph.value(id).root] = false;
      }
    }
    for (const auto& [id, fits] : candidates) {
      if (!fits || std::find(taken.begin(), taken.end(), id) != taken.end()) continue;
      pairs.emplace_back(output.value, id);
      taken.push_back(id);
      break;
    }
  }
  return pairs;
}

std::vector<int64_t> loop_bytes(const Graph& graph, const Region& region, const Course& course) {
  std::map<int, int> last;  // by root of what the loop makes: the step that reads it last
  std::map<int, int64_t> bytes;
  for (size_t i = 0; i < course.steps.size(); ++i) {
    const Step& step = course.steps[i];
    const Node& node = graph.node(step.node);
    for (const int id : node.results) {
      const int root = graph.value(id).root;
      if (root == id) bytes[root] = bytes_of(graph.value(id), step.out);
      if (bytes.count(root)) last[root] = static_cast<int>(i);
    }
    for (const int id : node.reads) {
      if (id >= 0 && bytes.count(graph.value(id).root)) last[graph.value(id).root] = static_cast<int>(i);
    }
  }
  for (const auto& [to, from] : donations(graph, region, course))
    last[graph.value(to).root] = static_cast<int>(course.steps.size());
  int64_t now = 0;
  std::vector<int64_t> out;
  std::map<int, Part> made;
  for (size_t i = 0; i < course.steps.size(); ++i) {
    const Step& step = course.steps[i];
    const Node& node = graph.node(step.node);
    for (const int id : node.results) {
      if (graph.value(id).root == id) now += bytes[id];
      made[id] = step.out;
    }
    const auto first = node.reads.empty() ? made.end() : made.find(node.reads[0]);
    out.push_back(now + scratch_bytes(graph, step, first == made.end() ? Part{} : first->second));
    for (const auto& [root, reader] : last) {
      if (reader == static_cast<int>(i)) now -= bytes[root];
    }
  }
  if (region.kind == RegionKind::columns) {  // a piece's sum beside the whole one
    const int x = graph.node(region.end - 1).reads[0];
    const auto held = bytes.find(graph.value(x).root);
    out.push_back((held == bytes.end() ? 0 : held->second) +
                  bytes_of(graph.value(graph.node(region.end - 1).results[0])));
  }
  return out;
}

namespace {

int64_t rows_per_row(const Graph& graph, const Region& region) {
  const Tensor& y = result(graph, graph.node(region.end - 1));
  if (region.kind == RegionKind::columns || region.dim >= y.dim() - 1) return 1;
  int64_t inner = 1;
  for (int64_t d = region.dim + 1; d < y.dim() - 1; ++d) inner *= y.size(d);
  return inner;
}

double course_seconds(const Graph& graph, const Course& course, const Machine& machine) {
  double total = 0;
  int passes = 0;
  for (auto step = course.steps.rbegin(); step != course.steps.rend(); ++step) {
    if (step->cut.is_two_pass) ++passes;  // everything before it runs once more
    total += seconds(graph, *step, machine) * (1 + passes);
  }
  for (const Course::Output& o : course.outputs) {  // the copy into the whole result
    total += machine.seconds_per_call +
             2.0 * static_cast<double>(bytes_of(graph.value(o.value), o.part)) / machine.bytes_per_second;
  }
  return total;
}

/// A line through what each step takes at two sizes of a piece, without those that are below another at every size.
std::vector<Line> lines_of(const std::vector<int64_t>& one, int64_t rows_one, const std::vector<int64_t>& more,
                           int64_t rows_more, int64_t length) {
  KINORA_ASSERT(one.size() == more.size());
  std::vector<Line> out;
  for (size_t i = 0; i < one.size(); ++i) {
    const auto low = static_cast<double>(one[i]), high = static_cast<double>(more[i]);
    Line line{.per_row = low / static_cast<double>(rows_one)};
    if (rows_more > rows_one) line.per_row = (high - low) / static_cast<double>(rows_more - rows_one);
    line.base = low - line.per_row * static_cast<double>(rows_one);
    const auto is_under = [&](const Line& a, const Line& b) {
      return a.at(rows_one) <= b.at(rows_one) && a.at(length) <= b.at(length);
    };
    if (std::any_of(out.begin(), out.end(), [&](const Line& other) { return is_under(line, other); })) continue;
    out.erase(std::remove_if(out.begin(), out.end(), [&](const Line& other) { return is_under(other, line); }),
              out.end());
    out.push_back(line);
  }
  return out;
}

/// How many times the rows of this course give every attention in it the queries that its kernel for tiles wants: with
/// fewer it takes another one, with other last bits.
int64_t times_for_tiles(const Graph& graph, const Course& course) {
  int64_t times = 1;
  for (const Step& step : course.steps) {
    const Node& node = graph.node(step.node);
    if (node.rule->work != Work::attention || !lays_out_tiles(graph, node)) continue;
    if (step.out.dim != result(graph, node).dim() - 2) continue;
    times = std::max(times, (kQueriesForTiles + step.out.length() - 1) / step.out.length());
  }
  return times;
}

}  // namespace

std::optional<Appraisal> appraise(Router& router, const Region& region, const Machine& machine, int64_t align_rows) {
  const Graph& graph = router.graph();
  Appraisal a;
  a.length = router.length(region);
  const int64_t inner = std::max<int64_t>(1, rows_per_row(graph, region));
  a.align = align_rows / std::gcd(align_rows, inner);
  if (inner >= align_rows) a.align = 1;
  // From the middle, where halos have both ends.
  const auto piece = [&](int64_t rows) {
    const int64_t begin = (a.length - rows) / 2 / a.align * a.align;
    return router.course(region, begin, begin + rows);
  };
  // Merged dims and groups want multiples: the least that runs, if any does.
  std::optional<Course> one;
  for (int tries = 0; tries < 8 && !one; ++tries, a.align *= 2) {
    if (2 * a.align > a.length) return std::nullopt;
    one = piece(a.align);
    if (one) break;
  }
  if (!one || one->steps.empty()) return std::nullopt;
  a.tail = std::min(a.align, kLeastTail);
  if (const int64_t times = times_for_tiles(graph, *one); times > 1) {
    a.tail = a.align *= times;
    if (2 * a.align > a.length || !(one = piece(a.align))) return std::nullopt;
  }
  // Far enough from the first that scratch which grows in steps does not look steeper than it is.
  const int64_t steps_more = std::clamp<int64_t>(a.length / (2 * a.align), 4, 16);
  const int64_t rows_more = std::min((a.length - a.align) / a.align, steps_more) * a.align;
  const auto more = rows_more > a.align ? piece(rows_more) : one;
  if (!more) return std::nullopt;
  for (const Step& s : one->steps) {
    const Node& node = graph.node(s.node);
    const bool is_whole_vectors = bytes_of(graph.value(node.results[0]), s.out) % kVectorsBytes == 0;
    a.is_exact = a.is_exact && !s.cut.is_two_pass && (is_whole_vectors || !depends_on_place(node));
  }
  a.is_exact = a.is_exact && region.kind == RegionKind::rows;
  for (const int i : one->hoisted) {
    a.fixed_seconds += seconds(graph, graph.node(i), machine);
    for (const int id : graph.node(i).results) {
      if (graph.value(id).root == id && graph.storage_of(id).is_counted) a.fixed_bytes += graph.storage_of(id).bytes;
    }
    a.before_bytes = std::max(a.before_bytes, a.fixed_bytes + scratch_bytes(graph, i));
  }
  const auto counted = [&](int id) { return graph.storage_of(id).is_counted ? bytes_of(graph.value(id)) : 0; };
  for (const Course::Output& o : one->outputs) a.fixed_bytes += counted(o.value);
  if (region.kind == RegionKind::columns) a.fixed_bytes += bytes_of(graph.value(graph.node(region.end - 1).results[0]));
  for (const auto& [to, from] : donations(graph, region, *one)) a.fixed_bytes -= counted(to);
  if (one->steps.size() != more->steps.size()) return std::nullopt;
  a.loop_bytes =
      lines_of(loop_bytes(graph, region, *one), a.align, loop_bytes(graph, region, *more), rows_more, a.length);
  double seconds_one = course_seconds(graph, *one, machine), seconds_more = course_seconds(graph, *more, machine);
  if (region.kind == RegionKind::columns) {
    const Node& last = graph.node(region.end - 1);
    const double whole = seconds(graph, last, machine), share = 1.0 / static_cast<double>(a.length);
    const double add = 3.0 * static_cast<double>(bytes_of(graph.value(last.results[0]))) / machine.bytes_per_second;
    seconds_one += whole * share * static_cast<double>(a.align) + machine.seconds_per_call + add;
    seconds_more += whole * share * static_cast<double>(rows_more) + machine.seconds_per_call + add;
  }
  if (rows_more == a.align) {
    a.call_seconds = 0;
    a.row_seconds = seconds_one / static_cast<double>(a.align);
    return a;
  }
  const double span = static_cast<double>(rows_more - a.align);
  a.row_seconds = (seconds_more - seconds_one) / span;
  a.call_seconds = std::max(0.0, seconds_one - a.row_seconds * static_cast<double>(a.align));
  return a;
}

}  // namespace kinora::graph
