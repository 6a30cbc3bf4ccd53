#include "kinora/offload/split.h"

#include <future>
#include <map>

#include "kinora/base/error.h"
#include "kinora/ops/linear.h"
#include "kinora/tensor/allocator.h"

namespace kinora::offload {
namespace {

Tensor empty_rows(const Param& param, int64_t rows, const WeightStore& store, at::Device device) {
  std::vector<int64_t> shape = param.shape;
  shape.at(0) = rows;
  return empty_at_phase(shape, at::TensorOptions().dtype(store.dtype()).device(device), store.phase(param, 0));
}

double seconds_of(const std::function<void()>& f) {
  const auto began = Pace::Clock::now();
  f();
  return std::chrono::duration<double>(Pace::Clock::now() - began).count();
}

}  // namespace

/// One thread that computes what it is given, in order.
class SplitWeights::CpuLane {
 public:
  explicit CpuLane(double rate) : rate_(rate), thread_([this] { run(); }) {}
  ~CpuLane() {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    changed_.notify_all();
  }
  CpuLane(const CpuLane&) = delete;
  CpuLane& operator=(const CpuLane&) = delete;

  std::future<Tensor> product(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
    std::packaged_task<Tensor()> task([this, x, weight, bias, asked = Pace::Clock::now()] {
      const at::NoGradGuard no_grad;
      Tensor y = ops::linear(x, weight, bias);
      if (rate_ > 0) pace_.spend(static_cast<double>(weight.nbytes()) / rate_, asked);
      return y;
    });
    auto result = task.get_future();
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
    return result;
  }

 private:
  void run() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return is_stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }

  double rate_;
  Pace pace_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<Tensor()>> tasks_;
  bool is_stopping_ = false;
  std::jthread thread_;  // last: it uses the others
};

SplitWeights::SplitWeights(const Params& params, const StreamPlan& plan, std::vector<int64_t> cpu_rows,
                           WeightStore& store, const SplitOptions& options)
    : params_(params), options_(options), cpu_rows_(std::move(cpu_rows)) {
  if (cpu_rows_.size() != static_cast<size_t>(params.size())) {
    throw UsageError(concat(cpu_rows_.size(), " shares for ", params.size(), " parameters"), "give one for each");
  }
  const CountAs counted(MemoryKind::weights);
  std::vector<RingPart> parts = ring_parts(params, plan);
  for (const Param& p : params) {
    const auto i = static_cast<size_t>(p.id);
    Tensor resident, host;
    if (parts[i].group < 0) {
      resident = resident_tensor(p, store, options.ring.device);
    } else if (cpu_rows_[i] < 0 || cpu_rows_[i] > p.shape[0]) {
      throw UsageError(concat(cpu_rows_[i], " rows of ", p.name, " for the CPU"), concat("it has ", p.shape[0]));
    } else {
      parts[i].first = cpu_rows_[i];
      parts[i].rows = p.shape[0] - cpu_rows_[i];
      if (cpu_rows_[i] > 0) {
        host = empty_rows(p, cpu_rows_[i], store, at::kCPU);
        store.copy(p, 0, host);
      }
      if (parts[i].rows == 0) parts[i].group = -1;
    }
    resident_.push_back(resident);
    host_.push_back(host);
  }
  RingOptions ring = options.ring;
  ring.slots = std::max(plan.slots, 1);
  ring_ = std::make_unique<Ring>(std::move(parts), store, ring);
  cpu_ = std::make_unique<CpuLane>(options.cpu_rate);
}

SplitWeights::~SplitWeights() = default;

Tensor SplitWeights::get(const Param& param) {
  const Tensor& resident = resident_.at(static_cast<size_t>(param.id));
  return resident.defined() ? resident : weight_now(param.id);
}

Tensor SplitWeights::linear_now(const Tensor& x, int32_t id, const std::optional<Tensor>& bias) {
  const auto i = static_cast<size_t>(id);
  const int64_t k = cpu_rows_[i], rows = params_[id].shape[0];
  const auto part_of_bias = [&](int64_t first, int64_t n, at::Device device) {
    return bias ? std::optional<Tensor>(bias->narrow(0, first, n).to(device)) : std::nullopt;
  };
  std::future<Tensor> on_cpu;
  if (k > 0) on_cpu = cpu_->product(x.cpu(), host_[i], part_of_bias(0, k, at::kCPU));
  Tensor on_device;
  if (k < rows) on_device = ops::linear(x, ring_->lease(id), part_of_bias(k, rows - k, x.device()));
  if (k == 0) return on_device;
  const Tensor from_cpu = on_cpu.get().to(x.device());
  return k == rows ? from_cpu : at::cat({from_cpu, on_device}, -1);
}

Tensor SplitWeights::weight_now(int32_t id) {
  const auto i = static_cast<size_t>(id);
  const int64_t k = cpu_rows_[i];
  if (k == 0) return ring_->lease(id);
  const Tensor host = host_[i].to(options_.ring.device);
  return k == params_[id].shape[0] ? host : at::cat({host, ring_->lease(id)}, 0);
}

std::vector<int64_t> plan_split(const Params& params, const StreamPlan& plan, WeightStore& store, at::Device device,
                                int64_t tokens, const AlphaOptions& options) {
  const at::NoGradGuard no_grad;
  std::map<std::vector<int64_t>, int64_t> by_shape;
  std::vector<int64_t> cpu_rows(static_cast<size_t>(params.size()));
  const std::vector<RingPart> parts = ring_parts(params, plan);
  for (const Param& p : params) {
    if (parts[static_cast<size_t>(p.id)].group < 0) continue;
    const auto [known, is_new] = by_shape.try_emplace(p.shape);
    if (is_new) {
      const Tensor host = empty_rows(p, p.shape[0], store, at::kCPU);
      store.copy(p, 0, host);
      const Tensor x = at::ones({tokens, p.shape[1]}, host.options()), x_there = x.to(device);
      const auto cpu = [&](int64_t rows) {
        return seconds_of([&] { ops::linear(x, host.narrow(0, 0, rows), std::nullopt); });
      };
      const auto over_link = [&](int64_t rows) {
        const Tensor place = empty_rows(p, rows, store, device);
        return seconds_of([&] {
          store.copy(p, p.shape[0] - rows, place);
          ops::linear(x_there, place, std::nullopt).cpu();  // waits for the device
        });
      };
      known->second = find_alpha(p.shape[0], cpu, over_link, options).cpu_rows;
    }
    cpu_rows[static_cast<size_t>(p.id)] = known->second;
  }
  return cpu_rows;
}

}  // namespace kinora::offload
