#include "kinora/offload/ring.h"

#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <cstring>

#include "kinora/base/error.h"
#include "kinora/offload/foresight.h"
#include "kinora/tensor/allocator.h"

namespace kinora::offload {
namespace {

constexpr uint64_t kAlignment = 256;  // what devices' kernels like

uint64_t bytes_of(const RingPart& part, uint64_t phase, at::ScalarType dtype) {
  const auto elements = static_cast<uint64_t>(c10::multiply_integers(part.shape()));
  return (phase + elements * c10::elementSize(dtype) + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

std::vector<int64_t> RingPart::shape() const {
  std::vector<int64_t> out = param.shape;
  if (rows >= 0) out.at(0) = rows;
  return out;
}

/// Everything behind one mutex. Tensors hold it, so that a slot is given back whoever is gone.
struct Ring::Shared {
  struct Weight {
    bool is_here = false;  // else on its way
    Fence ready;
  };
  struct Slot {
    Tensor memory;
    int group = -1;
    std::map<int32_t, Weight> weights;
    int held = 0;  // tensors handed out
    bool is_filling = false, was_asked = false;
    std::vector<Fence> last_uses;
    uint64_t bytes = 0;
  };
  struct Reader {
    Position position;
    std::vector<bool> skips_now, skips_then;
  };
  struct Job {
    Slot* slot = nullptr;
    std::vector<int32_t> ids;
  };

  std::vector<RingPart> parts;
  std::vector<std::vector<int32_t>> groups;
  std::vector<uint64_t> offsets;  // by id, in a slot
  WeightStore& store;
  RingOptions options;
  Foresight foresight;

  mutable std::mutex mutex;
  std::condition_variable changed;
  std::vector<Slot> slots;
  std::map<int, Reader> readers;
  int next_reader = 1;
  std::deque<std::pair<int32_t, int>> wanted;  // (id, reader)
  std::exception_ptr error;
  bool is_stopping = false;
  RingCounts counts;

  Shared(std::vector<RingPart> all, std::vector<std::vector<int32_t>> by_group, WeightStore& from, RingOptions o)
      : parts(std::move(all)),
        groups(std::move(by_group)),
        store(from),
        options(o),
        foresight(static_cast<int>(groups.size())),
        slots(static_cast<size_t>(o.slots)) {
    readers[0];
  }

  Slot* slot_of(int group) {
    const auto found = std::find_if(slots.begin(), slots.end(), [&](const Slot& s) { return s.group == group; });
    return found == slots.end() ? nullptr : &*found;
  }
  int ahead_of(const Reader& reader) const { return options.slots - (reader.position.now >= 0 ? 1 : 0); }

  bool is_needed(int group) const {
    for (const auto& [id, reader] : readers) {
      if (reader.position.now == group) return true;
      for (const Upcoming& u : foresight.after(reader.position, ahead_of(reader))) {
        if (u.group == group) return true;
      }
    }
    return false;
  }

  void free_what_nobody_needs() {
    bool any = false;
    for (Slot& slot : slots) {
      if (slot.group < 0 || slot.held > 0 || slot.is_filling || is_needed(slot.group)) continue;
      if (!slot.was_asked) counts.vain_bytes += slot.bytes;
      if (options.poisons && options.device.is_cpu()) std::memset(slot.memory.data_ptr(), 0xff, slot.memory.nbytes());
      slot.group = -1;
      slot.weights.clear();
      any = true;
    }
    if (any) changed.notify_all();
  }

  Tensor place(const Slot& slot, int32_t id, std::function<void(void*)> give_back) const {
    auto* begin = static_cast<std::byte*>(slot.memory.data_ptr()) + offsets[static_cast<size_t>(id)];
    const auto type = at::TensorOptions().dtype(store.dtype()).device(slot.memory.device());
    return at::from_blob(begin, parts[static_cast<size_t>(id)].shape(), std::move(give_back), type, type.device());
  }

  void move(int reader, int group) {
    Reader& r = readers.at(reader);
    if (r.position.now == group) return;
    foresight.move(r.position, group);
    free_what_nobody_needs();
    changed.notify_all();
  }

  /// Gives a free slot to the group; null when there is none.
  Slot* assign(int group) {
    Slot* slot = slot_of(-1);
    if (slot == nullptr) return nullptr;
    slot->group = group;
    slot->was_asked = false;
    slot->bytes = 0;
    return slot;
  }

  std::vector<int32_t> ids_of(int group, const std::vector<bool>& skipped) const {
    std::vector<int32_t> ids;
    for (const int32_t id : groups[static_cast<size_t>(group)]) {
      if (skipped.empty() || !skipped[static_cast<size_t>(id)]) ids.push_back(id);
    }
    return ids;
  }

  bool take_wanted(Job& job) {
    for (auto it = wanted.begin(); it != wanted.end();) {
      const auto [id, reader] = *it;
      const int group = parts[static_cast<size_t>(id)].group;
      Slot* slot = slot_of(group);
      if (slot != nullptr && slot->weights.count(id)) {
        it = wanted.erase(it);
        continue;
      }
      job.ids = {id};
      if (slot == nullptr) {
        slot = assign(group);
        if (slot != nullptr) {
          const auto from = readers.find(reader);
          const auto all = ids_of(group, from == readers.end() ? std::vector<bool>() : from->second.skips_now);
          std::copy_if(all.begin(), all.end(), std::back_inserter(job.ids),
                       [wish = id](int32_t i) { return i != wish; });
        }
      }
      if (slot != nullptr) {
        job.slot = slot;
        wanted.erase(it);
        return true;
      }
      ++it;
    }
    return false;
  }

  bool take_ahead(Job& job) {
    if (slot_of(-1) == nullptr) return false;
    for (int distance = 0; distance < options.slots; ++distance) {
      for (const auto& [name, reader] : readers) {
        const auto next = foresight.after(reader.position, ahead_of(reader));
        if (static_cast<size_t>(distance) >= next.size()) continue;
        const Upcoming u = next[static_cast<size_t>(distance)];
        if (slot_of(u.group) != nullptr) continue;
        job.ids = ids_of(u.group, u.is_next_pass ? reader.skips_then : reader.skips_now);
        if (job.ids.empty()) continue;
        job.slot = assign(u.group);
        return true;
      }
    }
    return false;
  }

  bool take(Job& job) {
    if (error || (!take_wanted(job) && !take_ahead(job))) return false;
    for (const int32_t id : job.ids) job.slot->weights[id];
    job.slot->is_filling = true;
    return true;
  }

  void fill(std::unique_lock<std::mutex>& lock, const Job& job) {
    const std::vector<Fence> last_uses = std::exchange(job.slot->last_uses, {});
    lock.unlock();
    for (const Fence& use : last_uses) use.block(options.device);
    store.expect(job.ids);
    lock.lock();
    for (const int32_t id : job.ids) {
      if (!is_needed(job.slot->group)) {  // nobody comes this way any more
        job.slot->weights.erase(id);
        continue;
      }
      const Tensor to = place(*job.slot, id, nullptr);
      const RingPart& part = parts[static_cast<size_t>(id)];
      lock.unlock();
      Fence ready;
      const uint64_t bytes = store.copy(part.param, part.first, to);
      ready.record(options.device);
      lock.lock();
      job.slot->weights[id] = {.is_here = true, .ready = std::move(ready)};
      job.slot->bytes += bytes;
      counts.bytes += bytes;
      ++counts.copies[id];
      changed.notify_all();
    }
    job.slot->is_filling = false;
    free_what_nobody_needs();
  }

  void run() {
    const at::NoGradGuard no_grad;
    std::unique_lock lock(mutex);
    try {
      const OwnStream stream(options.device);
      Job job;
      for (;;) {
        changed.wait(lock, [&] { return is_stopping || take(job); });
        if (is_stopping) return;
        fill(lock, job);
      }
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      error = std::current_exception();
      changed.notify_all();
    }
  }

  void give_back(size_t index) {
    Slot& slot = slots[index];
    Fence last_use;
    last_use.record(options.device);
    const std::lock_guard lock(mutex);
    if (!options.device.is_cpu()) slot.last_uses.push_back(std::move(last_use));
    --slot.held;
    free_what_nobody_needs();
  }
};

Ring::Ring(std::vector<RingPart> parts, WeightStore& store, RingOptions options) : options_(options) {
  if (options.slots < 1) throw UsageError(concat("a ring of ", options.slots, " slots"), "it takes at least one");
  std::vector<std::vector<int32_t>> groups;
  std::vector<uint64_t> offsets(parts.size()), used;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int group = parts[i].group;
    if (group < 0) continue;
    if (static_cast<size_t>(group) >= groups.size())
      groups.resize(static_cast<size_t>(group) + 1), used.resize(groups.size());
    groups[static_cast<size_t>(group)].push_back(static_cast<int32_t>(i));
    const uint64_t phase = store.phase(parts[i].param, parts[i].first);
    offsets[i] = used[static_cast<size_t>(group)] + phase;
    used[static_cast<size_t>(group)] += bytes_of(parts[i], phase, store.dtype());
  }
  for (const uint64_t bytes : used) slot_bytes_ = std::max(slot_bytes_, bytes);
  if (groups.empty()) options.slots = 0;
  shared_ = std::make_shared<Shared>(std::move(parts), std::move(groups), store, options);
  shared_->offsets = std::move(offsets);
  const CountAs counted(MemoryKind::weights);
  const auto raw = at::TensorOptions().dtype(at::kByte).device(options.device);
  for (auto& slot : shared_->slots) slot.memory = at::full({static_cast<int64_t>(slot_bytes_)}, 0xff, raw);
  if (options.slots > 0) lane_ = std::jthread([shared = shared_] { shared->run(); });
}

Ring::~Ring() {
  const std::lock_guard lock(shared_->mutex);
  shared_->is_stopping = true;
  shared_->changed.notify_all();
}

Tensor Ring::lease(int32_t id, int reader) {
  Shared& s = *shared_;
  std::unique_lock lock(s.mutex);
  const int group = s.parts.at(static_cast<size_t>(id)).group;
  KINORA_ASSERT(group >= 0);
  s.move(reader, group);
  Shared::Slot* slot = nullptr;
  const auto is_here = [&] {
    slot = s.slot_of(group);
    const auto found = slot != nullptr ? slot->weights.find(id) : std::map<int32_t, Shared::Weight>::iterator{};
    return s.error != nullptr || (slot != nullptr && found != slot->weights.end() && found->second.is_here);
  };
  if (!is_here()) {
    const auto began = Pace::Clock::now();
    s.wanted.emplace_back(id, reader);
    s.changed.notify_all();
    while (!s.changed.wait_for(lock, options_.patience, is_here)) {
      if (s.slot_of(group) != nullptr) continue;  // it is being filled, however slow the link is
      std::erase(s.wanted, std::pair(id, reader));
      throw ResourceError(
          concat("no slot for ", s.parts[static_cast<size_t>(id)].param.name, ": all ", s.slots.size(), " are held"),
          "let go of weights before the next ones are asked for, or give the ring more slots");
    }
    s.counts.waited_seconds += std::chrono::duration<double>(Pace::Clock::now() - began).count();
  }
  if (s.error) std::rethrow_exception(s.error);
  slot->was_asked = true;
  ++slot->held;
  const Fence ready = slot->weights.at(id).ready;
  lock.unlock();
  ready.block(options_.device);
  const auto index = static_cast<size_t>(slot - s.slots.data());
  return s.place(*slot, id, [shared = shared_, index](void*) { shared->give_back(index); });
}

void Ring::skip(std::vector<bool> now, std::vector<bool> then, int reader) {
  const std::lock_guard lock(shared_->mutex);
  Shared::Reader& r = shared_->readers.at(reader);
  r.skips_now = std::move(now), r.skips_then = std::move(then);
}

int Ring::add_reader() {
  const std::lock_guard lock(shared_->mutex);
  shared_->readers[shared_->next_reader];
  return shared_->next_reader++;
}

void Ring::remove_reader(int reader) {
  const std::lock_guard lock(shared_->mutex);
  shared_->readers.erase(reader);
  shared_->free_what_nobody_needs();
}

RingCounts Ring::counts() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->counts;
}

}  // namespace kinora::offload
