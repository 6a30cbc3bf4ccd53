// kinora bench cache: whether PAB is as fast as its hits predict, and what a cache costs that computes everything.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/cache/registry.h"
#include "kinora/cli/bench_model.h"
#include "kinora/cli/model_options.h"
#include "kinora/diffusion/rflow.h"

namespace kinora::cli {
namespace {

/// Every site of one kind repeats what it gave first: by how much quicker a call is, the kind saves.
class Repeats final : public Policy {
 public:
  explicit Repeats(Kind kind) : kind_(kind) {}
  bool reuses(const SiteKey& key, const Run&) const override { return is_mine(key) && kept_.contains(key.path); }
  Streams reuse(const SiteKey& key, const Run&) override { return kept_.find(key.path)->second; }
  bool keeps(const SiteKey& key, const Run&) const override { return is_mine(key); }
  void keep(const SiteKey& key, const Run&, const Streams& streams) override {
    kept_.insert_or_assign(std::string(key.path), streams);
  }
  int64_t sites() const { return static_cast<int64_t>(kept_.size()); }

 private:
  bool is_mine(const SiteKey& key) const { return key.kind == kind_ && key.point == Point::residual; }
  Kind kind_;
  std::map<std::string, Streams, std::less<>> kept_;
};

/// Seconds of every call, the least of several rounds.
using Seconds = std::vector<double>;

void take_least(Seconds& least, size_t call, double seconds) {
  least[call] = least[call] == 0 ? seconds : std::min(least[call], seconds);
}

double sum(const Seconds& seconds) { return std::accumulate(seconds.begin(), seconds.end(), 0.0); }

struct Course {
  std::string name;  ///< of the cache; empty: none
  std::unique_ptr<cache::Method> method;
  Seconds seconds;
};

struct Saving {
  Kind kind;
  double of_a_call = 0;  ///< share of the plain call that goes when all sites of the kind repeat
  int64_t sites = 0;
};

/// What one site's repetition saves, measured in turn with plain calls.
std::vector<Saving> measure_savings(const std::function<double(Policy*)>& timed, int64_t times) {
  std::vector<Saving> savings;
  for (const Kind kind : {Kind::spatial, Kind::temporal, Kind::cross, Kind::mlp}) {
    Repeats repeats(kind);
    timed(&repeats);
    double plain = HUGE_VAL, repeated = HUGE_VAL;
    for (int64_t i = 0; i < times; ++i) {
      plain = std::min(plain, timed(nullptr));
      repeated = std::min(repeated, timed(&repeats));
    }
    savings.push_back({kind, 1 - repeated / plain, repeats.sites()});
  }
  return savings;
}

Json line_of(const Course& course, double plain, const std::vector<Saving>& savings) {
  const auto calls = static_cast<double>(course.seconds.size());
  Json hits = Json::object();
  double saved = 0;  // plain calls
  for (const Saving& s : savings) {
    const auto found = course.method->hits().find(cache::kind_name(s.kind));
    const int64_t reused = found == course.method->hits().end() ? 0 : found->second.reused;
    hits[std::string(cache::kind_name(s.kind))] = reused;
    saved += s.of_a_call * static_cast<double>(reused) / static_cast<double>(s.sites);
  }
  const double ratio = sum(course.seconds) / plain, predicted = 1 - saved / calls;
  return {{"cache", course.name},         {"seconds", sum(course.seconds)},      {"ratio_to_plain", ratio},
          {"predicted_ratio", predicted}, {"over_predicted", ratio / predicted}, {"sites_reused", std::move(hits)}};
}

}  // namespace

int bench_cache(const BenchModelOptions& o, MakeBenchModel make, Context& context) {
  use_threads(o.threads);
  const at::NoGradGuard no_grad;
  const at::ScalarType dtype = parse_dtype(o.dtype);
  const BenchModel model = make(o, dtype);
  ResidentWeights weights = random_weights(*model.params, dtype);
  // The times of a clip of 51 frames at 480p, as PAB's windows were made for.
  const RFlowShift shift{.height = 480, .width = 854, .num_frames = 51};
  const RFlow scheduler(static_cast<int>(o.steps), &shift);
  const std::span<const double> schedule = scheduler.timesteps();
  const auto depth = o.layers;
  const cache::Context request{
      .model = "STDiT3",
      .sites = {{Kind::spatial, depth}, {Kind::temporal, depth}, {Kind::cross, 2 * depth}, {Kind::mlp, 2 * depth}},
      .schedule = {schedule.begin(), schedule.end()},
      .steps = o.steps};

  Run run;
  run.weights = &weights;
  run.cancel = context.cancel;
  const auto timed = [&](size_t call, Policy* policy) {
    run.step = {.call = static_cast<int>(call),
                .calls = static_cast<int>(schedule.size()),
                .timestep = schedule[call],
                .schedule = schedule};
    run.policy = policy;
    return seconds_of([&] { model.forward(run); });
  };
  timed(0, nullptr);  // warms up

  std::vector<Course> courses(1);
  for (const char* text : {"pab:window=0..0,mlp=off", "first-block:threshold=0", "pab:mlp=off", "pab"})
    courses.push_back({.name = text, .method = nullptr, .seconds = {}});
  for (Course& course : courses) course.seconds.resize(schedule.size());
  for (int64_t round = 0; round < o.repeats; ++round) {
    for (Course& course : courses) {
      if (!course.name.empty()) course.method = cache::make_method(course.name, request);
    }
    for (size_t call = 0; call < schedule.size(); ++call) {
      for (size_t i = 0; i < courses.size(); ++i) {  // who comes first changes, so that none always follows the same
        Course& course = courses[(i + call) % courses.size()];
        take_least(course.seconds, call, timed(call, course.method.get()));
      }
    }
  }
  const auto savings = measure_savings([&](Policy* policy) { return timed(1, policy); }, 3 * o.repeats);

  const double plain = sum(courses.front().seconds);
  Json line = model.line;
  line.update({{"bench", "cache"},
               {"dtype", c10::toString(dtype)},
               {"threads", at::get_num_threads()},
               {"steps", o.steps},
               {"plain_seconds", plain}});
  for (const Saving& s : savings) line["saving_of_a_call"][std::string(cache::kind_name(s.kind))] = s.of_a_call;
  for (size_t i = 1; i < courses.size(); ++i) line["caches"].push_back(line_of(courses[i], plain, savings));
  print_json(line);
  return 0;
}

}  // namespace kinora::cli
