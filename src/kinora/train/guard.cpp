#include "kinora/train/guard.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kinora/base/error.h"

namespace kinora::train {
namespace {

constexpr const char* kLosses = "guard.losses";
constexpr const char* kBad = "guard.bad";

template <typename T>
at::Tensor as_tensor(const std::deque<T>& values, at::ScalarType dtype) {
  at::Tensor out = at::empty({static_cast<int64_t>(values.size())}, dtype);
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<T>());
  return out;
}

template <typename T>
void read(const Checkpoint& checkpoint, const char* name, at::ScalarType dtype, std::deque<T>& into) {
  into.clear();
  const auto* stored = checkpoint.find(name);
  if (stored == nullptr) return;
  const at::Tensor values = load_tensor(*stored);
  if (values.dim() != 1 || values.scalar_type() != dtype)
    throw DataError(concat(checkpoint.path().string(), ": ", name, " is not what a training leaves"));
  into.assign(values.const_data_ptr<T>(), values.const_data_ptr<T>() + values.numel());
}

double z_score(const std::deque<double>& values, double value) {
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double v : values) squares += (v - mean) * (v - mean);
  const double deviation = std::sqrt(squares / count);
  return deviation > 0 ? (value - mean) / deviation : 0;
}

}  // namespace

LossGuard::Verdict LossGuard::see(int64_t step, double loss, double gradient_norm) {
  last_ = step;
  while (!bad_.empty() && bad_.front() <= step - kBadWithin) bad_.pop_front();
  if (!std::isfinite(loss) || !std::isfinite(gradient_norm)) {
    bad_.push_back(step);
    return Verdict::not_finite;
  }
  const bool outlier = losses_.size() == kWindow && z_score(losses_, loss) > kMostZScore;
  losses_.push_back(loss);
  if (losses_.size() > kWindow) losses_.pop_front();
  return outlier ? Verdict::outlier : Verdict::update;
}

bool LossGuard::in_doubt() const {
  if (!last_was_bad()) return false;
  if (bad_.size() >= kBadInAll) return true;
  return bad_.size() >= kBadInARow && bad_[bad_.size() - kBadInARow] == last_ - static_cast<int64_t>(kBadInARow) + 1;
}

NamedTensors LossGuard::state() const {
  return {{kLosses, as_tensor(losses_, at::kDouble)}, {kBad, as_tensor(bad_, at::kLong)}};
}

void LossGuard::load_state(const Checkpoint& checkpoint) {
  read(checkpoint, kLosses, at::kDouble, losses_);
  read(checkpoint, kBad, at::kLong, bad_);
  last_ = -1;
}

}  // namespace kinora::train
