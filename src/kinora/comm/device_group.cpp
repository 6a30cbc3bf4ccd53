#include "kinora/comm/device_group.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <type_traits>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/comm/check.h"
#include "kinora/comm/comparisons.h"
#include "kinora/comm/counts.h"

namespace kinora::comm {
namespace {

constexpr auto kCallBytes = static_cast<int64_t>(sizeof(Call));

Tensor flat(const Tensor& t) { return t.detach().view(-1); }

Tensor bytes_of(const Call& call) {
  const Tensor bytes = at::empty({kCallBytes}, at::kByte);
  std::memcpy(bytes.data_ptr(), &call, sizeof call);
  return bytes;
}

Call call_in(const Tensor& bytes, int64_t place = 0) {
  Call call;
  std::memcpy(&call, static_cast<const std::byte*>(bytes.const_data_ptr()) + place * kCallBytes, sizeof call);
  return call;
}

/// A flat buffer and how much of it belongs to which rank.
struct Parts {
  Tensor buffer;
  std::vector<int64_t> counts;
  std::vector<int64_t> begins = offsets(counts);

  Tensor of(int rank) const {
    return buffer.narrow(0, begins[static_cast<size_t>(rank)], counts[static_cast<size_t>(rank)]);
  }
};

/// Messages that start together.
struct Batch {
  struct Message {
    Call call;
    Part part;
    bool is_sent;
    bool is_compared;
  };
  std::vector<Message> messages;
  std::unique_ptr<Work> work;  ///< once they have started
};

class DeviceGroup final : public Communicator {
 public:
  DeviceGroup(Communicator& control, std::unique_ptr<Lane> lane, Check check, int world_rank)
      : control_(&control), lane_(std::move(lane)), check_(check), comparisons_(check) {
    meet(world_rank);
  }
  DeviceGroup(std::unique_ptr<Communicator> control, std::unique_ptr<Lane> lane, Check check, int world_rank)
      : owned_(std::move(control)), control_(owned_.get()), lane_(std::move(lane)), check_(check), comparisons_(check) {
    meet(world_rank);
  }

  int rank() const override { return control_->rank(); }
  int size() const override { return control_->size(); }

  std::unique_ptr<Work> all_to_all(Tensor out, const Tensor& in, Counts from, Counts to,
                                   std::string_view name) override {
    check_all_to_all(*this, out, in, from, to, name);
    if (!is_here(in)) return passed([&] { return control_->all_to_all(out, in, from, to, name); });
    Call call = made(Operation::all_to_all, in);
    call.elements = 0;
    const Parts sent{flat(in), {to.begin(), to.end()}}, got{flat(out), {from.begin(), from.end()}};
    return begin(call, name, to, from, {out, in}, [&] { swap(sent, got); });
  }

  std::unique_ptr<Work> all_gather(Tensor out, const Tensor& in, Counts counts, std::string_view name) override {
    check_all_gather(*this, out, in, counts, name);
    if (!is_here(in)) return passed([&] { return control_->all_gather(out, in, counts, name); });
    const Parts got{flat(out), {counts.begin(), counts.end()}};
    return begin(made(Operation::all_gather, out), name, counts, {}, {out, in}, [&] { gather(flat(in), got); });
  }

  std::unique_ptr<Work> reduce_scatter(Tensor out, const Tensor& in, Counts counts, std::string_view name) override {
    check_reduce_scatter(*this, out, in, counts, name);
    if (!is_here(in)) return passed([&] { return control_->reduce_scatter(out, in, counts, name); });
    const Parts sent{flat(in), {counts.begin(), counts.end()}};
    std::vector<Tensor> slices = slices_like(flat(out));
    std::vector<Tensor> buffers = slices;
    buffers.insert(buffers.end(), {out, in});
    return begin(made(Operation::reduce_scatter, in), name, counts, {}, std::move(buffers),
                 [&] { scatter(flat(out), sent, slices); });
  }

  std::unique_ptr<Work> all_reduce(Tensor values, std::string_view name) override {
    check_all_reduce(values, name);
    if (!is_here(values)) return passed([&] { return control_->all_reduce(values, name); });
    const Parts all{flat(values), even_counts(values.numel(), size())};
    const Tensor own = all.of(rank());
    std::vector<Tensor> slices = slices_like(own);
    std::vector<Tensor> buffers = slices;
    buffers.push_back(values);
    return begin(made(Operation::all_reduce, values), name, {}, {}, std::move(buffers), [&] {
      scatter(own, all, slices);
      gather(own, all);
    });
  }

  std::unique_ptr<Work> broadcast(Tensor values, int root, std::string_view name) override {
    check_broadcast(*this, values, root, name);
    if (!is_here(values)) return passed([&] { return control_->broadcast(values, root, name); });
    Call call = made(Operation::broadcast, values);
    call.root = root;
    return begin(call, name, {}, {}, {values}, [&] {
      std::vector<Part> parts;
      if (rank() != root) add(parts, flat(values), root);
      if (rank() == root) each_other([&](int peer) { add(parts, flat(values), peer); });
      if (rank() == root)
        lane_->exchange(parts, {});
      else
        lane_->exchange({}, parts);
    });
  }

  std::unique_ptr<Work> send(const Tensor& values, int to, std::string_view name) override {
    check_peer(*this, values, to, name);
    if (!is_here(values)) return passed([&] { return control_->send(values, to, name); });
    return message(values, rank(), to, name);
  }
  std::unique_ptr<Work> recv(Tensor values, int from, std::string_view name) override {
    check_peer(*this, values, from, name);
    if (!is_here(values)) return passed([&] { return control_->recv(values, from, name); });
    return message(values, from, rank(), name);
  }

  void barrier(std::string_view name) override {
    start_messages();
    attempt([&] {
      lane_->wait_for_device();
      control_->barrier(name);
    });
  }
  void rendezvous(std::string_view name) override {
    start_messages();
    attempt([&] {
      lane_->wait_for_device();
      control_->rendezvous(name);
    });
  }

  std::unique_ptr<Communicator> split(int colour, int key) override {
    start_messages();
    return attempt([&]() -> std::unique_ptr<Communicator> {
      auto control = control_->split(colour, key);
      auto lane = lane_->of_group(*control);
      return std::make_unique<DeviceGroup>(std::move(control), std::move(lane), check_,
                                           members_[static_cast<size_t>(rank())]);
    });
  }

  /// Starts what waits for its counterpart.
  void start_messages() {
    if (batch_->messages.empty()) return;
    const auto batch = std::exchange(batch_, std::make_shared<Batch>());
    attempt([&] {
      compare(*batch);
      std::vector<Part> sent, received;
      std::vector<Tensor> buffers;
      for (const Batch::Message& m : batch->messages) {
        add(m.is_sent ? sent : received, m.part.values, m.part.peer);
        buffers.push_back(m.part.values);
      }
      batch->work = lane_->run(batch->messages.front().call, std::move(buffers), [&] {
        if (!sent.empty() || !received.empty()) lane_->exchange(sent, received);
      });
    });
  }

 private:
  class Message final : public Work {
   public:
    Message(DeviceGroup& group, std::shared_ptr<Batch> batch) : group_(group), batch_(std::move(batch)) {}
    ~Message() override {
      try {
        wait();
      } catch (...) {  // the next call of this rank throws it again
      }
    }
    Message(const Message&) = delete;
    Message& operator=(const Message&) = delete;
    void wait() override {
      if (!batch_->work) group_.start_messages();
      if (!batch_->work) group_.check();
      batch_->work->wait();
    }

   private:
    DeviceGroup& group_;
    std::shared_ptr<Batch> batch_;
  };

  /// The ranks of the world, for words: a rank of a group of a group has two numbers.
  void meet(int world_rank) {
    const Tensor all = at::empty({size()}, at::kLong);
    const std::vector<int64_t> one(static_cast<size_t>(size()), 1);
    control_->all_gather(all, at::full({1}, world_rank, at::kLong), one, "ranks")->wait();
    for (int64_t r = 0; r < size(); ++r) members_.push_back(static_cast<int>(all.const_data_ptr<int64_t>()[r]));
  }

  bool is_here(const Tensor& t) const {
    if (t.device() == lane_->device()) return true;
    if (!t.device().is_cpu())
      throw UsageError(concat("these ranks exchange tensors of ", lane_->device().str(), " and of the CPU, not of ",
                              t.device().str()));
    return false;
  }

  /// After a failure ranks are out of step: it is thrown again, whatever is asked for.
  void check() {
    if (failure_) std::rethrow_exception(failure_);
    try {
      lane_->check();
    } catch (...) {
      failure_ = std::current_exception();
      throw;
    }
  }
  template <typename F>
  std::invoke_result_t<F> attempt(const F& f) {
    check();
    try {
      return f();
    } catch (...) {
      failure_ = std::current_exception();
      throw;
    }
  }
  template <typename F>
  std::unique_ptr<Work> passed(const F& f) {
    start_messages();
    return attempt(f);
  }

  std::unique_ptr<Work> begin(Call call, std::string_view name, Counts counts, Counts from, std::vector<Tensor> buffers,
                              const std::function<void()>& f) {
    start_messages();
    return attempt([&] {
      call.sequence = sequence_++;
      seal(call, name, counts, from);
      if (comparisons_.are_due(call, name, counts)) compare(call);
      return lane_->run(call, std::move(buffers), [&] {
        const at::NoGradGuard no_grad;
        f();
      });
    });
  }

  std::unique_ptr<Work> message(const Tensor& values, int from, int to, std::string_view name) {
    check();
    Call call = made(Operation::message, values);
    call.channel = from * size() + to;
    call.sequence = messages_[call.channel]++;
    seal(call, name, {});
    const bool is_sent = from == rank();
    batch_->messages.push_back(
        {call, {flat(values), is_sent ? to : from}, is_sent, comparisons_.are_due(call, name, {})});
    auto work = std::make_unique<Message>(*this, batch_);
    const auto sends = std::count_if(batch_->messages.begin(), batch_->messages.end(),
                                     [](const Batch::Message& m) { return m.is_sent; });
    if (2 * sends == static_cast<int64_t>(batch_->messages.size())) start_messages();
    return work;
  }

  Call made(Operation operation, const Tensor& whole) const {
    Call call;
    call.operation = operation, call.ranks = size();
    call.dtype = static_cast<int32_t>(whole.scalar_type()), call.elements = whole.numel();
    return call;
  }

  void compare(const Call& call) {
    const Tensor all = at::empty({size() * kCallBytes}, at::kByte);
    const std::vector<int64_t> counts(static_cast<size_t>(size()), kCallBytes);
    control_->all_gather(all, bytes_of(call), counts, "calls")->wait();
    each_other([&](int peer) { require_agreement(call, call_in(all, peer), peer); });
  }

  /// The receiver compares: ranks may start the messages of both directions in different orders.
  void compare(const Batch& batch) {
    std::vector<std::pair<const Batch::Message*, Tensor>> theirs;
    std::vector<std::unique_ptr<Work>> works;
    for (const Batch::Message& m : batch.messages) {
      if (!m.is_compared) continue;
      if (m.is_sent) {
        works.push_back(control_->send(bytes_of(m.call), m.part.peer, "messages"));
      } else {
        theirs.emplace_back(&m, at::empty({kCallBytes}, at::kByte));
        works.push_back(control_->recv(theirs.back().second, m.part.peer, "messages"));
      }
    }
    for (const auto& work : works) work->wait();
    for (const auto& [m, bytes] : theirs) require_agreement(m->call, call_in(bytes), m->part.peer);
  }

  void require_agreement(const Call& mine, const Call& other, int peer) const {
    const int me = rank();
    if (!agrees(mine, me, other, peer))
      throw PeerError(both_sides(mine, members_[static_cast<size_t>(me)], other, members_[static_cast<size_t>(peer)]));
  }

  template <typename F>
  void each_other(const F& f) const {
    // Beginning behind this rank: not all send to rank 0 first.
    for (int i = 1; i < size(); ++i) f((rank() + i) % size());
  }
  static void add(std::vector<Part>& parts, const Tensor& values, int peer) {
    if (values.numel() > 0) parts.push_back({values, peer});
  }

  void swap(const Parts& sent, const Parts& got) const {
    std::vector<Part> to, from;
    each_other([&](int peer) { add(to, sent.of(peer), peer), add(from, got.of(peer), peer); });
    lane_->exchange(to, from);
    got.of(rank()).copy_(sent.of(rank()));
  }

  void gather(const Tensor& mine, const Parts& got) const {
    std::vector<Part> to, from;
    each_other([&](int peer) { add(to, mine, peer), add(from, got.of(peer), peer); });
    lane_->exchange(to, from);
    const Tensor own = got.of(rank());
    if (own.data_ptr() != mine.data_ptr()) own.copy_(mine);
  }

  /// Where the others' slices come to; nothing for this rank.
  std::vector<Tensor> slices_like(const Tensor& sum) const {
    std::vector<Tensor> slices(static_cast<size_t>(size()));
    each_other([&](int peer) { slices[static_cast<size_t>(peer)] = at::empty_like(sum); });
    return slices;
  }
  /// This rank's slice from every rank, added up in order, into `sum`.
  void scatter(const Tensor& sum, const Parts& sent, std::vector<Tensor> slices) const {
    std::vector<Part> to, from;
    each_other([&](int peer) { add(to, sent.of(peer), peer), add(from, slices[static_cast<size_t>(peer)], peer); });
    lane_->exchange(to, from);
    slices[static_cast<size_t>(rank())] = sent.of(rank());
    add_in_order(sum, std::move(slices), rank());
  }

  std::unique_ptr<Communicator> owned_;
  Communicator* control_;
  std::unique_ptr<Lane> lane_;
  Check check_;
  Comparisons comparisons_;
  std::vector<int> members_;
  int64_t sequence_ = 0;
  std::map<int64_t, int64_t> messages_;
  std::shared_ptr<Batch> batch_ = std::make_shared<Batch>();
  std::exception_ptr failure_;
};

}  // namespace

std::unique_ptr<Communicator> device_group(Communicator& control, std::unique_ptr<Lane> lane, Check check) {
  return std::make_unique<DeviceGroup>(control, std::move(lane), check, control.rank());
}

}  // namespace kinora::comm
