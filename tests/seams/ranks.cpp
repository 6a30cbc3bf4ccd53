#include "seams/ranks.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <exception>
#include <thread>

#include "kinora/base/error.h"
#include "kinora/ops/register.h"

namespace kinora::seams {
namespace {

// Operators take what the schema language knows, and that has no pointers.
Endpoint& endpoint_at(int64_t address) { return *reinterpret_cast<Endpoint*>(address); }  // NOLINT

Tensor exchange_now(const Tensor& slabs, int64_t endpoint) {
  Endpoint& e = endpoint_at(endpoint);
  ++e.exchanges;
  const Tensor sent = slabs.contiguous();
  return e.skips ? sent.clone() : e.mailbox->exchange(e.rank, sent);
}

Tensor exchange_meta(const Tensor& slabs, int64_t) { return at::empty_like(slabs, at::MemoryFormat::Contiguous); }

Tensor exchange_with_grad(const Tensor& slabs, int64_t endpoint);

const ops::Operator<&exchange_now, &exchange_meta> exchange_op(
    "kinora::seams_exchange(Tensor slabs, int endpoint) -> Tensor", &exchange_now, &exchange_now, &exchange_with_grad);

struct Exchange : torch::autograd::Function<Exchange> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& slabs, int64_t endpoint) {
    context->saved_data["endpoint"] = endpoint;
    at::AutoDispatchBelowADInplaceOrView below;
    return exchange_op(slabs, endpoint);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    return {exchange_op(grads[0], context->saved_data["endpoint"].toInt()), Tensor()};
  }
};

Tensor exchange_with_grad(const Tensor& slabs, int64_t endpoint) { return Exchange::apply(slabs, endpoint); }

}  // namespace

void Mailbox::barrier() {
  std::unique_lock lock(mutex_);
  const uint64_t round = round_;
  if (++waiting_ == ranks()) {
    waiting_ = 0;
    ++round_;
    changed_.notify_all();
    return;
  }
  if (!changed_.wait_for(lock, patience_, [&] { return round_ != round; })) {
    --waiting_;
    throw PeerError("a rank waited for its peer in vain");
  }
}

Tensor Mailbox::exchange(int rank, const Tensor& slabs) {
  const auto mine = static_cast<size_t>(rank);
  posts_[mine] = slabs;
  barrier();
  std::vector<Tensor> received;
  bool fits = true;
  for (const Tensor& post : posts_) {
    fits = fits && post.sizes() == slabs.sizes();
    if (fits) received.push_back(post.select(0, rank));
  }
  const Tensor out = fits ? at::stack(received) : Tensor();
  barrier();  // nobody posts again before all have read
  if (!fits) throw PeerError("ranks exchange tensors of different shapes");
  return out;
}

Tensor TwoRanks::exchange(const Tensor& slabs) const {
  const auto address = reinterpret_cast<int64_t>(&endpoint_);  // NOLINT
  return endpoint_.behind_dispatcher ? exchange_now(slabs, address) : exchange_op(slabs, address);
}

Tensor TwoRanks::pad(const Tensor& t, int64_t dim) const {
  const int64_t lacking = (ranks() - t.size(dim) % ranks()) % ranks();
  if (lacking == 0) return t;
  std::vector<int64_t> by(static_cast<size_t>(2 * (t.dim() - dim)), 0);  // last dimension first
  by.back() = lacking;
  return at::constant_pad_nd(t, by);
}

std::vector<Tensor> TwoRanks::cut(const Tensor& t, int64_t dim) const { return pad(t, dim).chunk(ranks(), dim); }

Tensor TwoRanks::gather(const Tensor& part, int64_t dim) const {
  return at::cat(exchange(at::stack(std::vector<Tensor>(static_cast<size_t>(ranks()), part))).unbind(0), dim);
}

Tensor TwoRanks::local(const Tensor& whole, Axis axis, int dim) const {
  return axis == home_ ? cut(whole, dim)[static_cast<size_t>(endpoint_.rank)] : whole;
}

Tensor TwoRanks::whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const {
  return axis == home_ ? gather(local, dim).narrow(dim, 0, extent.of(axis)) : local;
}

Streams TwoRanks::with_whole(Axis axis, const Extent& extent, Streams streams,
                             c10::function_ref<Streams(Streams)> f) const {
  if (axis != home_) return f(std::move(streams));
  const Axis other = home_ == Axis::rows ? Axis::frames : Axis::rows;
  const auto swap = [&](const Tensor& t, Axis from, Axis to) {  // `from` is whole and gets cut, `to` becomes whole
    const Tensor got =
        at::cat(exchange(at::stack(cut(t, static_cast<int64_t>(from)))).unbind(0), static_cast<int64_t>(to));
    return got.narrow(static_cast<int64_t>(to), 0, extent.of(to));
  };
  for (Tensor& t : streams) t = swap(t, other, home_);
  streams = f(std::move(streams));
  for (Tensor& t : streams) t = swap(t, home_, other);
  return streams;
}

Streams TwoRanks::attention(const Heads& video, const Heads* text, const Tensor& mask, const Extent& extent) const {
  const int64_t rank = endpoint_.rank;
  const int64_t home = home_ == Axis::rows ? 4 : 3;  // in [3, B, A, T, S, D]
  const int64_t part = (extent.of(home_) + ranks() - 1) / ranks();
  const int64_t t_local = home_ == Axis::frames ? part : extent.frames,
                s_local = home_ == Axis::rows ? part : extent.rows;
  const Tensor qkv = at::stack({video.q, video.k, video.v}).unflatten(3, {t_local, s_local});
  const Tensor whole =
      at::cat(exchange(at::stack(cut(qkv, 2))).unbind(0), home).narrow(home, 0, extent.of(home_)).flatten(3, 4);
  const Heads mine{whole.select(0, 0), whole.select(0, 1), whole.select(0, 2)};
  const auto of_rank = [&](const Tensor& t) { return t.chunk(ranks(), 1)[static_cast<size_t>(rank)]; };
  const Heads words = text ? Heads{of_rank(text->q), of_rank(text->k), of_rank(text->v)} : Heads{};
  Streams out = whole_layout().attention(mine, text ? &words : nullptr, mask, extent);
  const Tensor rows = out[0].unflatten(2, {extent.frames, extent.rows});  // [B, A / N, T, S, D]
  out[0] = at::cat(exchange(at::stack(cut(rows, home - 1))).unbind(0), 1).flatten(2, 3);
  if (text) out[1] = gather(out[1], 1);
  return out;
}

Tensor TwoRanks::sum(const Tensor& partial) const {
  const auto parts = exchange(at::stack(std::vector<Tensor>(static_cast<size_t>(ranks()), partial))).unbind(0);
  Tensor total = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) total = total + parts[i];
  return total;
}

Tensor TwoRanks::own(const Tensor& local, const Extent& extent) const {
  const auto dim = static_cast<int64_t>(home_);
  const int64_t part = local.size(dim), left = extent.of(home_) - endpoint_.rank * part;
  return local.narrow(dim, 0, std::clamp<int64_t>(left, 0, part));
}

void run_ranks(Mailbox& mailbox, const std::function<void(Endpoint&)>& f, bool skips) {
  const auto n = static_cast<size_t>(mailbox.ranks());
  std::vector<Endpoint> endpoints(n);
  std::vector<std::exception_ptr> errors(n);
  std::vector<std::thread> threads;
  for (size_t r = 0; r < n; ++r) {
    endpoints[r] = {.mailbox = &mailbox, .rank = static_cast<int>(r), .skips = skips};
    threads.emplace_back([&, r] {
      try {
        at::NoGradGuard no_grad;
        f(endpoints[r]);
      } catch (...) {
        errors[r] = std::current_exception();
      }
    });
  }
  for (auto& t : threads) t.join();
  for (const auto& e : errors) {
    if (e) std::rethrow_exception(e);
  }
}

}  // namespace kinora::seams
