#include "kinora/comm/exchange.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/comm/check.h"
#include "kinora/comm/comparisons.h"
#include "kinora/comm/counts.h"
#include "kinora/comm/flight.h"

namespace kinora::comm {
namespace {

std::span<std::byte> bytes_of(const Tensor& flat, int64_t begin, int64_t count) {
  const auto size = static_cast<int64_t>(flat.element_size());
  return {static_cast<std::byte*>(flat.data_ptr()) + begin * size, static_cast<size_t>(count * size)};
}
std::span<std::byte> bytes_of(const Tensor& flat) { return bytes_of(flat, 0, flat.numel()); }

Tensor flat(const Tensor& t) { return t.detach().view(-1); }

class Pending final : public Work {
 public:
  Pending(std::shared_ptr<Engine> engine, std::shared_ptr<Flight> flight)
      : engine_(std::move(engine)), flight_(std::move(flight)) {}
  ~Pending() override {
    try {
      wait();
    } catch (...) {  // the next exchange of this rank throws it again
    }
  }
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  void wait() override { engine_->wait(*flight_); }

 private:
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<Flight> flight_;
};

class Group final : public Communicator {
 public:
  Group(std::shared_ptr<Engine> engine, uint64_t id, std::vector<int> members, int me)
      : engine_(std::move(engine)),
        id_(id),
        members_(std::make_shared<const std::vector<int>>(std::move(members))),
        me_(me),
        comparisons_(engine_->options().check) {}

  int rank() const override { return me_; }
  int size() const override { return static_cast<int>(members_->size()); }

  std::unique_ptr<Work> all_to_all(Tensor out, const Tensor& in, Counts from, Counts to,
                                   std::string_view name) override {
    check_all_to_all(*this, out, in, from, to, name);
    on_host(in);
    Call call = made(Operation::all_to_all, in);
    call.elements = 0;
    const Parts sent{flat(in), {to.begin(), to.end()}}, got{flat(out), {from.begin(), from.end()}};
    return begin(call, name, to, from, {out, in}, [this, sent, got](Flight& f) { swap(f, sent, got); });
  }

  std::unique_ptr<Work> all_gather(Tensor out, const Tensor& in, Counts counts, std::string_view name) override {
    check_all_gather(*this, out, in, counts, name);
    on_host(in);
    Call call = made(Operation::all_gather, out);
    const Parts got{flat(out), {counts.begin(), counts.end()}};
    return begin(call, name, counts, {}, {out, in}, [this, mine = flat(in), got](Flight& f) { gather(f, mine, got); });
  }

  std::unique_ptr<Work> reduce_scatter(Tensor out, const Tensor& in, Counts counts, std::string_view name) override {
    check_reduce_scatter(*this, out, in, counts, name);
    on_host(in);
    Call call = made(Operation::reduce_scatter, in);
    const Parts sent{flat(in), {counts.begin(), counts.end()}};
    return begin(call, name, counts, {}, {out, in},
                 [this, sum = flat(out), sent](Flight& f) { scatter(f, sum, sent, {}); });
  }

  std::unique_ptr<Work> all_reduce(Tensor values, std::string_view name) override {
    check_all_reduce(values, name);
    on_host(values);
    Call call = made(Operation::all_reduce, values);
    const Parts all{flat(values), even_counts(values.numel(), size())};
    return begin(call, name, {}, {}, {values}, [this, all](Flight& f) {
      const Tensor own = all.part(me_);
      scatter(f, own, all, [this, own, all](Flight& g) { gather(g, own, all); });
    });
  }

  std::unique_ptr<Work> broadcast(Tensor values, int root, std::string_view name) override {
    check_broadcast(*this, values, root, name);
    on_host(values);
    Call call = made(Operation::broadcast, values);
    call.root = root;
    return begin(call, name, {}, {}, {values}, [this, values, root](Flight& f) {
      if (me_ != root) return engine_->receive(f, bytes_of(values), root);
      each_other([&](int peer) { engine_->send(f, bytes_of(values), peer); });
    });
  }

  std::unique_ptr<Work> send(const Tensor& values, int to, std::string_view name) override {
    check_peer(*this, values, to, name);
    return message(values, me_, to, name);
  }
  std::unique_ptr<Work> recv(Tensor values, int from, std::string_view name) override {
    check_peer(*this, values, from, name);
    return message(values, from, me_, name);
  }

  void barrier(std::string_view name) override { meet(name, false); }
  void rendezvous(std::string_view name) override { meet(name, true); }

  std::unique_ptr<Communicator> split(int colour, int key) override;

 private:
  void meet(std::string_view name, bool is_patient) {
    const Tensor tokens = at::zeros({2 * size()}, at::kByte);
    Call call = made(Operation::barrier, tokens);
    begin(
        call, name, {}, {}, {tokens},
        [this, tokens](Flight& f) {
          each_other([&](int peer) {
            engine_->receive(f, bytes_of(tokens, peer, 1), peer);
            engine_->send(f, bytes_of(tokens, size() + peer, 1), peer);
          });
        },
        is_patient)
        ->wait();
  }

  /// A flat buffer and how much of it belongs to which rank.
  struct Parts {
    Tensor buffer;
    std::vector<int64_t> counts;
    std::vector<int64_t> begins = offsets(counts);

    Tensor part(int rank) const {
      return buffer.narrow(0, begins[static_cast<size_t>(rank)], counts[static_cast<size_t>(rank)]);
    }
  };

  template <typename F>
  void each_other(const F& f) const {
    // Beginning behind this rank: not all send to rank 0 first.
    for (int i = 1; i < size(); ++i) f((me_ + i) % size());
  }

  static void on_host(const Tensor& t) {
    if (!t.device().is_cpu())
      throw UsageError(concat("these ranks exchange tensors of the CPU, not of ", t.device().str()));
  }

  Call made(Operation operation, const Tensor& whole) const {
    Call call;
    call.group = id_, call.operation = operation, call.ranks = size();
    call.dtype = static_cast<int32_t>(whole.scalar_type()), call.elements = whole.numel();
    return call;
  }

  std::unique_ptr<Work> begin(Call call, std::string_view name, Counts counts, Counts from, std::vector<Tensor> buffers,
                              std::function<void(Flight&)> first, bool is_patient = false) {
    call.sequence = sequence_++;
    seal(call, name, counts, from);
    return fly(call, std::move(buffers),
               comparisons_.are_due(call, name, counts) ? compared(std::move(first)) : std::move(first), is_patient);
  }

  std::unique_ptr<Work> fly(const Call& call, std::vector<Tensor> buffers, std::function<void(Flight&)> first,
                            bool is_patient = false) {
    auto flight = std::make_shared<Flight>();
    flight->call = call, flight->members = members_, flight->me = me_;
    flight->buffers = std::move(buffers), flight->next = std::move(first), flight->is_patient = is_patient;
    engine_->start(flight);
    return std::make_unique<Pending>(engine_, std::move(flight));
  }

  std::function<void(Flight&)> compared(std::function<void(Flight&)> first) const {
    return [this, first = std::move(first)](Flight& f) {
      f.theirs.resize(static_cast<size_t>(size()));
      each_other([&](int peer) {
        const std::span theirs(&f.theirs[static_cast<size_t>(peer)], 1);
        engine_->receive(f, std::as_writable_bytes(theirs), peer, true);
        engine_->send(f, std::as_bytes(std::span(&f.call, 1)), peer, true);
      });
      f.next = [this, first](Flight& g) {
        each_other([&](int peer) {
          require_agreement(g, g.theirs[static_cast<size_t>(peer)], (*members_)[static_cast<size_t>(peer)]);
        });
        first(g);
      };
    };
  }

  std::unique_ptr<Work> message(const Tensor& values, int from, int to, std::string_view name) {
    on_host(values);
    Call call = made(Operation::message, values);
    call.channel = from * size() + to;
    call.sequence = messages_[call.channel]++;
    seal(call, name, {});
    return fly(call, {values}, [this, values, from, to](Flight& f) {
      if (from == me_)
        engine_->send(f, bytes_of(values), to);
      else
        engine_->receive(f, bytes_of(values), from);
    });
  }

  void swap(Flight& f, const Parts& sent, const Parts& got) const {
    const at::NoGradGuard no_grad;
    each_other([&](int peer) {
      engine_->receive(f, bytes_of(got.part(peer)), peer);
      engine_->send(f, bytes_of(sent.part(peer)), peer);
    });
    got.part(me_).copy_(sent.part(me_));
  }

  void gather(Flight& f, const Tensor& mine, const Parts& got) const {
    const at::NoGradGuard no_grad;
    ++f.phase;
    each_other([&](int peer) {
      engine_->receive(f, bytes_of(got.part(peer)), peer);
      engine_->send(f, bytes_of(mine), peer);
    });
    const Tensor own = got.part(me_);
    if (own.data_ptr() != mine.data_ptr()) own.copy_(mine);
  }

  /// This rank's slice from every rank, added up in order, into `sum`.
  void scatter(Flight& f, const Tensor& sum, const Parts& sent, std::function<void(Flight&)> then) const {
    const at::NoGradGuard no_grad;
    std::vector<Tensor> slices(static_cast<size_t>(size()));
    each_other([&](int peer) {
      Tensor& slice = slices[static_cast<size_t>(peer)] = at::empty_like(sum);
      engine_->receive(f, bytes_of(slice), peer);
      engine_->send(f, bytes_of(sent.part(peer)), peer);
    });
    slices[static_cast<size_t>(me_)] = sent.part(me_);
    f.buffers.insert(f.buffers.end(), slices.begin(), slices.end());
    f.next = [sum, slices = std::move(slices), me = me_, then = std::move(then)](Flight& g) {
      add_in_order(sum, slices, me);
      if (then) then(g);
    };
  }

  std::shared_ptr<Engine> engine_;
  uint64_t id_;
  std::shared_ptr<const std::vector<int>> members_;
  int me_;
  int64_t sequence_ = 0;
  std::map<int64_t, int64_t> messages_;
  Comparisons comparisons_;
};

std::unique_ptr<Communicator> Group::split(int colour, int key) {
  const Tensor mine = at::tensor({int64_t{colour}, int64_t{key}}, at::kLong), all = at::empty({2 * size()}, at::kLong);
  Call call = made(Operation::split, all);
  const Parts got{all, std::vector<int64_t>(static_cast<size_t>(size()), 2)};
  const int64_t sequence = sequence_;
  begin(call, "split", {}, {}, {mine, all}, [this, mine, got](Flight& f) { gather(f, mine, got); })->wait();

  std::vector<std::pair<int64_t, int>> chosen;  // key and rank here
  const auto* pairs = all.const_data_ptr<int64_t>();
  for (int r = 0; r < size(); ++r) {
    if (pairs[2 * r] == colour) chosen.emplace_back(pairs[2 * r + 1], r);
  }
  std::sort(chosen.begin(), chosen.end());
  std::vector<int> members;
  int me = 0;
  for (const auto& [k, r] : chosen) {
    if (r == me_) me = static_cast<int>(members.size());
    members.push_back((*members_)[static_cast<size_t>(r)]);
  }
  const uint64_t id = hash(hash(id_, static_cast<uint64_t>(sequence)), static_cast<uint64_t>(colour));
  return std::make_unique<Group>(engine_, id, std::move(members), me);
}

}  // namespace

void add_in_order(const Tensor& out, std::vector<Tensor> parts, int own) {
  const size_t n = parts.size();
  if (n == 1) {
    if (out.data_ptr() != parts[0].data_ptr()) out.copy_(parts[0]);
    return;
  }
  if (at::isReducedFloatingType(out.scalar_type())) {
    Tensor total = parts[0].to(at::kFloat);
    for (size_t i = 1; i < n; ++i) total.add_(parts[i]);
    out.copy_(total);
    return;
  }
  // Into `out` only where it is no part that is still to be read.
  Tensor total = own == 0 ? out : parts[0];
  for (size_t i = 1; i < n; ++i) {
    Tensor to = i + 1 == n ? out : total;
    at::add_out(to, i == 1 ? parts[0] : total, parts[i]);
  }
}

std::unique_ptr<Communicator> exchange(std::shared_ptr<Transport> transport, const ExchangeOptions& options) {
  if (options.deadline.count() < 1) throw UsageError("ranks cannot wait for less than a millisecond");
  const int rank = transport->rank();
  std::vector<int> all(static_cast<size_t>(transport->size()));
  std::iota(all.begin(), all.end(), 0);
  auto engine = std::make_shared<Engine>(std::move(transport), options);
  // A large number: from a small one a hash comes to 0, which colours and sequences of 0 keep, and groups share it.
  return std::make_unique<Group>(std::move(engine), 0xcbf29ce484222325U, std::move(all), rank);
}

}  // namespace kinora::comm
