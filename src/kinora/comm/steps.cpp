#include "kinora/comm/steps.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/base/log.h"

namespace kinora::comm {
namespace {

constexpr size_t kWindow = 20;
constexpr double kRatio = 2.0;
constexpr double kLeastExcess_s = 0.005;
constexpr int64_t kQuietSteps = 200;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);  // of two: the quicker
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::string seconds(double s) {
  const auto hundredths = static_cast<int64_t>(s * 100 + 0.5);
  return concat(hundredths / 100, ".", hundredths / 10 % 10, hundredths % 10, " s");
}

}  // namespace

std::string describe(const Straggler& s) {
  return concat("rank ", s.rank, " works ", seconds(s.step_s), " a step, the median is ", seconds(s.median_s),
                ": everybody waits for it");
}

std::optional<Straggler> Stragglers::add(std::span<const double> work_s) {
  told_.resize(work_s.size(), -kQuietSteps);
  ++num_steps_;
  recent_.emplace_back(work_s.begin(), work_s.end());
  if (recent_.size() > kWindow) recent_.pop_front();
  if (recent_.size() < kWindow) return std::nullopt;
  std::vector<double> means(work_s.size(), 0.0);
  for (const auto& step : recent_) {
    for (size_t r = 0; r < means.size(); ++r) means[r] += step[r] / static_cast<double>(kWindow);
  }
  const auto slowest = std::max_element(means.begin(), means.end());
  const double usual = median(means);
  int64_t& told = told_[static_cast<size_t>(slowest - means.begin())];
  if (*slowest <= kRatio * usual || *slowest - usual < kLeastExcess_s || num_steps_ - told < kQuietSteps)
    return std::nullopt;
  told = num_steps_;
  return Straggler{static_cast<int>(slowest - means.begin()), *slowest, usual};
}

bool Steps::agree_to_stop(bool mine, double work_s) {
  const Tensor own = at::tensor({mine ? 1.0 : 0.0, work_s}, at::kDouble),
               all = at::empty({2 * group_.size()}, at::kDouble);
  const std::vector<int64_t> two(static_cast<size_t>(group_.size()), 2);
  group_.all_gather(all, own, two, "step")->wait();
  const auto* values = all.const_data_ptr<double>();
  bool stops = false;
  std::vector<double> work;
  for (int r = 0; r < group_.size(); ++r) {
    stops = stops || values[2 * r] > 0;
    work.push_back(values[2 * r + 1]);
  }
  const auto slow = stragglers_.add(work);
  if (slow && group_.rank() == 0) log_warn(describe(*slow));
  return stops;
}

}  // namespace kinora::comm
