#include "kinora/graph/arena.h"

#include <c10/core/Allocator.h>

#include <algorithm>
#include <numeric>

#include "kinora/base/error.h"

namespace kinora::graph {
namespace {

constexpr int64_t kAlignment = 64;
int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

/// What the first run did, and what the present one does.
struct Arena::Trace {
  // Of the first run.
  std::vector<Interval> intervals;
  int events = 0;
  bool is_recording = true;
  Offsets offsets;
  // Of the present run.
  std::vector<bool> is_alive;
  std::vector<size_t> alive;
  size_t next = 0;
  char* base = nullptr;
  int64_t served = 0, outside = 0;
  ArenaMemory* memory = nullptr;
};

namespace {

thread_local std::shared_ptr<Arena::Trace>* active = nullptr;  // the allocator is one object for all threads

struct Noted {
  std::shared_ptr<Arena::Trace> trace;
  size_t index;
  c10::DataPtr inner;
};
void free_noted(void* context) {
  const std::unique_ptr<Noted> noted(static_cast<Noted*>(context));
  Arena::Trace& t = *noted->trace;
  if (t.is_recording) t.intervals[noted->index].end = ++t.events;
}

struct Served {
  std::shared_ptr<Arena::Trace> trace;
  size_t index;
  at::Tensor buffer;
};
void free_served(void* context) {
  const std::unique_ptr<Served> served(static_cast<Served*>(context));
  Arena::Trace& t = *served->trace;
  t.is_alive[served->index] = false;
  t.alive.erase(std::remove(t.alive.begin(), t.alive.end(), served->index), t.alive.end());
}

class ArenaAllocator final : public c10::Allocator {
 public:
  explicit ArenaAllocator(c10::Allocator* below) : below_(below) {}

  c10::DataPtr allocate(size_t bytes) override {
    if (active == nullptr || bytes == 0) return below_->allocate(bytes);
    Arena::Trace& t = **active;
    const c10::Device cpu(c10::DeviceType::CPU);
    if (t.is_recording) {
      const size_t index = t.intervals.size();
      t.intervals.push_back({.bytes = static_cast<int64_t>(bytes), .begin = ++t.events, .end = 0});
      auto* const noted = new Noted{*active, index, below_->allocate(bytes)};
      return {noted->inner.get(), noted, &free_noted, cpu};
    }
    const size_t index = t.next++;
    const bool is_known = index < t.intervals.size() && t.intervals[index].bytes == static_cast<int64_t>(bytes);
    if (is_known && t.intervals[index].end == 0) {  // outlives the run
      bool is_new = false;
      c10::DataPtr lasting = t.memory->lasting(bytes, is_new);
      ++(is_new ? t.outside : t.served);
      return lasting;
    }
    if (!is_known || clashes(t, index)) {
      ++t.outside;
      return below_->allocate(bytes);
    }
    ++t.served;
    t.is_alive[index] = true;
    t.alive.push_back(index);
    auto* const served = new Served{*active, index, buffer};
    return {t.base + t.offsets.at[index], served, &free_served, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return active == nullptr ? below_->raw_deleter() : nullptr; }
  void copy_data(void* to, const void* from, size_t count) const override { below_->copy_data(to, from, count); }

  c10::Allocator* below() const { return below_; }
  static thread_local at::Tensor buffer;

 private:
  /// Something that was freed by now in the first run still lies there.
  static bool clashes(const Arena::Trace& t, size_t index) {
    const int64_t begin = t.offsets.at[index], end = begin + t.intervals[index].bytes;
    if (t.is_alive[index]) return true;
    return std::any_of(t.alive.begin(), t.alive.end(), [&](size_t other) {
      const int64_t at = t.offsets.at[other];
      return at < end && begin < at + t.intervals[other].bytes;
    });
  }
  c10::Allocator* below_;
};

thread_local at::Tensor ArenaAllocator::buffer;

ArenaAllocator* installed = nullptr;  // as LibTorch's table of allocators, which it stands in

}  // namespace

void install_arena_allocator() {
  if (installed != nullptr) return;
  // LibTorch keeps the pointer for good, and tensors may be freed after main: never destroyed.
  installed = new ArenaAllocator(c10::GetAllocator(c10::DeviceType::CPU));
  constexpr uint8_t kAboveCounting = 20;
  c10::SetAllocator(c10::DeviceType::CPU, installed, kAboveCounting);
}

Offsets place(std::span<const Interval> intervals) {
  Offsets out;
  out.at.assign(intervals.size(), 0);
  std::vector<size_t> order(intervals.size()), placed;
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return intervals[a].bytes > intervals[b].bytes; });
  for (const size_t i : order) {
    int64_t at = 0;
    for (const size_t p : placed) {  // by place
      if (intervals[p].begin >= intervals[i].end || intervals[i].begin >= intervals[p].end) continue;
      if (out.at[p] >= at + aligned(intervals[i].bytes)) break;
      at = std::max(at, out.at[p] + aligned(intervals[p].bytes));
    }
    out.at[i] = at;
    out.bytes = std::max(out.bytes, at + aligned(intervals[i].bytes));
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), i, [&](size_t a, size_t b) { return out.at[a] < out.at[b]; }),
        i);
  }
  std::vector<std::pair<int, int64_t>> events;
  for (const Interval& i : intervals)
    events.insert(events.end(), {{i.begin, aligned(i.bytes)}, {i.end, -aligned(i.bytes)}});
  std::sort(events.begin(), events.end());
  int64_t now = 0;
  for (const auto& [time, bytes] : events) out.bound = std::max(out.bound, now += bytes);
  return out;
}

struct ArenaMemory::Slot {
  c10::DataPtr memory;
  size_t bytes = 0;
  bool is_taken = false;
};

at::Tensor ArenaMemory::buffer(int64_t bytes) {
  if (!buffer_.defined() || buffer_.numel() < bytes) {
    buffer_.reset();
    buffer_ = at::empty({bytes}, at::kByte);
  }
  return buffer_;
}

c10::DataPtr ArenaMemory::lasting(size_t bytes, bool& is_new) {
  const auto free =
      std::find_if(slots_.begin(), slots_.end(), [&](const auto& s) { return s->bytes == bytes && !s->is_taken; });
  is_new = free == slots_.end();
  if (is_new) {
    slots_.push_back(std::make_shared<Slot>());
    slots_.back()->memory = installed->below()->allocate(bytes);
    slots_.back()->bytes = bytes;
  }
  const std::shared_ptr<Slot> slot = is_new ? slots_.back() : *free;
  slot->is_taken = true;
  auto* const held = new std::shared_ptr<Slot>(slot);
  return {slot->memory.get(), held,
          [](void* context) {
            const std::unique_ptr<std::shared_ptr<Slot>> mine(static_cast<std::shared_ptr<Slot>*>(context));
            (*mine)->is_taken = false;
          },
          c10::Device(c10::DeviceType::CPU)};
}

Arena::~Arena() = default;

void Arena::run(const std::function<void()>& f) {
  if (installed == nullptr || active != nullptr) return f();
  const bool is_first = trace_ == nullptr;
  if (is_first) trace_ = std::make_shared<Trace>();
  trace_->memory = memory_.get();
  if (!is_first) {
    ArenaAllocator::buffer = memory_->buffer(trace_->offsets.bytes);
    trace_->base = static_cast<char*>(ArenaAllocator::buffer.data_ptr());
    trace_->next = 0, trace_->served = 0, trace_->outside = 0;
  }
  struct On {
    explicit On(std::shared_ptr<Trace>* t) { active = t; }
    ~On() {
      active = nullptr;
      ArenaAllocator::buffer.reset();
    }
  };
  {
    const On on(&trace_);
    f();
  }
  ++counts_.runs;
  if (is_first) {
    trace_->is_recording = false;
    std::vector<Interval> inside = trace_->intervals;
    for (Interval& i : inside) {
      if (i.end == 0) i.bytes = 0, i.end = i.begin;  // outlives the run: not in the buffer
    }
    trace_->offsets = place(inside);
    trace_->is_alive.assign(inside.size(), false);
    counts_.outside = static_cast<int64_t>(inside.size());
    counts_.bytes = trace_->offsets.bytes, counts_.bound = trace_->offsets.bound;
  } else {
    counts_.served = trace_->served, counts_.outside = trace_->outside;
  }
}

}  // namespace kinora::graph
