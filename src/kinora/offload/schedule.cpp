#include "kinora/offload/schedule.h"

#include <algorithm>

#include "kinora/base/error.h"

namespace kinora::offload {

Timeline virtual_time(const Schedule& schedule) {
  Timeline timeline;
  std::array<double, kNumResources> free{};
  for (size_t i = 0; i < schedule.size(); ++i) {
    const Task& task = schedule[i];
    if (!(task.seconds >= 0)) {
      throw UsageError(concat("task ", i, " takes ", task.seconds, " s"), "a task takes 0 s or more");
    }
    const auto lane = static_cast<size_t>(task.resource);
    double begin = free.at(lane);
    for (const int before : task.after) {
      if (before < 0 || static_cast<size_t>(before) >= i) {
        throw UsageError(concat("task ", i, " waits for task ", before), "a task waits for earlier ones only");
      }
      begin = std::max(begin, timeline.end[static_cast<size_t>(before)]);
    }
    free[lane] = begin + task.seconds;
    timeline.busy[lane] += task.seconds;
    timeline.begin.push_back(begin);
    timeline.end.push_back(free[lane]);
    timeline.total = std::max(timeline.total, free[lane]);
  }
  return timeline;
}

Schedule streaming(const Streaming& plan) {
  Schedule schedule;
  std::vector<int> streamed;  // the computations of streamed blocks so far
  int computed = -1;
  for (int step = 0; step < plan.steps; ++step) {
    for (const bool is_resident : plan.resident) {
      Task compute{.resource = Resource::device, .seconds = plan.compute_seconds};
      if (!is_resident) {
        Task copy{.resource = Resource::link, .seconds = plan.copy_seconds};
        const auto count = static_cast<int>(streamed.size());
        if (plan.ring == 0 && computed >= 0) copy.after = {computed};
        if (plan.ring > 0 && count >= plan.ring) copy.after = {streamed[static_cast<size_t>(count - plan.ring)]};
        compute.after = {static_cast<int>(schedule.size())};
        schedule.push_back(std::move(copy));
        streamed.push_back(static_cast<int>(schedule.size()));
      }
      computed = static_cast<int>(schedule.size());
      schedule.push_back(std::move(compute));
    }
  }
  return schedule;
}

double seconds_per_step(const Streaming& plan, const Timeline& timeline) {
  if (plan.steps < 2) throw UsageError("one step has no pace", "give at least two steps");
  std::vector<int> tasks_of_step(1, 0);
  for (const bool is_resident : plan.resident) tasks_of_step[0] += is_resident ? 1 : 2;
  const auto last = timeline.end.size() - 1;
  return timeline.end[last] - timeline.end[last - static_cast<size_t>(tasks_of_step[0])];
}

std::vector<bool> spread_evenly(int blocks, int count) {
  if (blocks < 0 || count < 0 || count > blocks) {
    throw UsageError(concat(count, " of ", blocks, " blocks cannot be resident"), "take 0 up to all of them");
  }
  std::vector<bool> resident;
  for (int64_t b = 0; b < blocks; ++b) resident.push_back((b + 1) * count / blocks > b * count / blocks);
  return resident;
}

std::vector<bool> first_of(int blocks, int count) {
  std::vector<bool> resident = spread_evenly(blocks, count);
  std::sort(resident.begin(), resident.end(), std::greater<>());
  return resident;
}

double StepBound::seconds() const {
  const double over_link = std::max(0.0, bytes - resident_bytes), from_disk = std::max(0.0, over_link - host_bytes);
  double bound = compute_seconds;
  if (link_rate > 0) bound = std::max(bound, over_link / link_rate);
  if (disk_rate > 0) bound = std::max(bound, from_disk / disk_rate);
  return bound;
}

double split_share(const SplitRates& rates, bool prefetch) {
  if (prefetch) {
    const double hidden = rates.other_seconds * rates.link_rate / rates.bytes;
    return std::clamp(rates.cpu_rate * (1 - hidden) / (rates.cpu_rate + rates.link_rate), 0.0, 1.0);
  }
  const double device = 1 / rates.link_rate + (rates.device_rate > 0 ? 1 / rates.device_rate : 0);
  return device / (1 / rates.cpu_rate + device);
}

double split_seconds(const SplitRates& rates) {
  const double together = (rates.bytes + rates.other_seconds * rates.cpu_rate) / (rates.cpu_rate + rates.link_rate);
  return std::max(together, rates.other_seconds);
}

Schedule split_layers(const SplitRates& rates, double alpha, int layers, int ring) {
  Schedule schedule;
  std::vector<int> layer_ends;
  for (int i = 0; i < layers; ++i) {
    Task link{.resource = Resource::link, .seconds = (1 - alpha) * rates.bytes / rates.link_rate};
    if (i >= ring) link.after = {layer_ends[static_cast<size_t>(i - ring)]};
    Task cpu{.resource = Resource::cpu, .seconds = alpha * rates.bytes / rates.cpu_rate};
    if (i > 0) cpu.after = {layer_ends.back()};
    const int at = static_cast<int>(schedule.size());
    Task device{.resource = Resource::device, .seconds = rates.other_seconds, .after = {at, at + 1}};
    if (rates.device_rate > 0) device.seconds += (1 - alpha) * rates.bytes / rates.device_rate;
    layer_ends.push_back(at + 2);
    schedule.push_back(std::move(link));
    schedule.push_back(std::move(cpu));
    schedule.push_back(std::move(device));
  }
  return schedule;
}

}  // namespace kinora::offload
