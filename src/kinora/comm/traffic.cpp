#include "kinora/comm/traffic.h"

#include <chrono>

#include "kinora/comm/counts.h"

namespace kinora::comm {
namespace {

int64_t bytes_of(const Tensor& t, int64_t elements) { return elements * static_cast<int64_t>(t.element_size()); }

class Stopwatch {
 public:
  explicit Stopwatch(Traffic& traffic) : traffic_(traffic) {}
  ~Stopwatch() { traffic_.add_wait(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count()); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  Traffic& traffic_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// Dropped without a wait, it waits all the same: `inner_` does.
class Timed final : public Work {
 public:
  Timed(std::unique_ptr<Work> inner, Traffic& traffic) : inner_(std::move(inner)), traffic_(traffic) {}
  void wait() override {
    const Stopwatch watch(traffic_);
    inner_->wait();
  }

 private:
  std::unique_ptr<Work> inner_;
  Traffic& traffic_;
};

}  // namespace

void Traffic::add(std::string_view name, std::string_view operation, int64_t bytes) {
  Sent& row = rows_[{std::string(name), std::string(operation)}];
  ++row.calls;
  row.bytes += bytes;
}

Sent Traffic::of(std::string_view name, std::string_view operation) const {
  const auto found = rows_.find({std::string(name), std::string(operation)});
  return found == rows_.end() ? Sent{} : found->second;
}

Sent Traffic::total() const {
  Sent all;
  for (const auto& [key, row] : rows_) all.calls += row.calls, all.bytes += row.bytes;
  return all;
}

// Counted once the inner communicator has taken it: what it refuses was not sent.

std::unique_ptr<Work> Counted::all_to_all(Tensor out, const Tensor& in, Counts from, Counts to, std::string_view name) {
  auto work = inner_->all_to_all(std::move(out), in, from, to, name);
  traffic_->add(name, "all_to_all", bytes_of(in, sum(to) - own(to)));
  return std::make_unique<Timed>(std::move(work), *traffic_);
}

std::unique_ptr<Work> Counted::all_gather(Tensor out, const Tensor& in, Counts counts, std::string_view name) {
  auto work = inner_->all_gather(std::move(out), in, counts, name);
  traffic_->add(name, "all_gather", bytes_of(in, own(counts) * others()));
  return std::make_unique<Timed>(std::move(work), *traffic_);
}

std::unique_ptr<Work> Counted::reduce_scatter(Tensor out, const Tensor& in, Counts counts, std::string_view name) {
  auto work = inner_->reduce_scatter(std::move(out), in, counts, name);
  traffic_->add(name, "reduce_scatter", bytes_of(in, sum(counts) - own(counts)));
  return std::make_unique<Timed>(std::move(work), *traffic_);
}

std::unique_ptr<Work> Counted::all_reduce(Tensor values, std::string_view name) {
  auto work = inner_->all_reduce(values, name);
  const int64_t slice = own(even_counts(values.numel(), inner_->size()));
  traffic_->add(name, "all_reduce", bytes_of(values, values.numel() - slice + slice * others()));
  return std::make_unique<Timed>(std::move(work), *traffic_);
}

std::unique_ptr<Work> Counted::broadcast(Tensor values, int root, std::string_view name) {
  auto work = inner_->broadcast(values, root, name);
  traffic_->add(name, "broadcast", root == inner_->rank() ? bytes_of(values, values.numel() * others()) : 0);
  return std::make_unique<Timed>(std::move(work), *traffic_);
}

std::unique_ptr<Work> Counted::send(const Tensor& values, int to, std::string_view name) {
  auto work = inner_->send(values, to, name);
  traffic_->add(name, "send", bytes_of(values, values.numel()));
  return std::make_unique<Timed>(std::move(work), *traffic_);
}

std::unique_ptr<Work> Counted::recv(Tensor values, int from, std::string_view name) {
  auto work = inner_->recv(std::move(values), from, name);
  traffic_->add(name, "recv", 0);
  return std::make_unique<Timed>(std::move(work), *traffic_);
}

void Counted::barrier(std::string_view name) {
  {
    const Stopwatch watch(*traffic_);
    inner_->barrier(name);
  }
  traffic_->add(name, "barrier", 0);
}

void Counted::rendezvous(std::string_view name) {
  {
    const Stopwatch watch(*traffic_);
    inner_->rendezvous(name);
  }
  traffic_->add(name, "rendezvous", 0);
}

std::unique_ptr<Communicator> Counted::split(int colour, int key) {
  auto group = std::make_unique<Counted>(inner_->split(colour, key), *traffic_);
  traffic_->add("split", "split", 0);
  return group;
}

}  // namespace kinora::comm
