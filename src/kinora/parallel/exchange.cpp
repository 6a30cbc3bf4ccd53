#include "kinora/parallel/exchange.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <numeric>

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"
#include "kinora/ops/register.h"

namespace kinora::parallel {
namespace {

using at::IntArrayRef;
using at::TensorList;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* kBackward = " backward";

std::vector<int64_t> with_size(const Tensor& t, int64_t dim, int64_t size) {
  std::vector<int64_t> sizes = t.sizes().vec();
  sizes[static_cast<size_t>(dim)] = size;
  return sizes;
}

/// How many elements each rank's part has where dimension `dim` is dealt out.
std::vector<int64_t> elements(IntArrayRef sizes, int64_t dim, IntArrayRef counts) {
  int64_t others = 1;
  for (size_t d = 0; d < sizes.size(); ++d) others *= static_cast<int64_t>(d) == dim ? 1 : sizes[d];
  std::vector<int64_t> all;
  for (const int64_t n : counts) all.push_back(n * others);
  return all;
}

std::vector<int64_t> plus(std::vector<int64_t> a, const std::vector<int64_t>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

int64_t rank_of(int64_t group) { return group_of(group).rank(); }

Tensor empty_part(const Tensor& whole, int64_t dim, IntArrayRef counts, int64_t rank) {
  return whole.new_empty(with_size(whole, dim, counts[static_cast<size_t>(rank)]));
}

/// Walks a buffer that lies rank by rank and, for each rank, tensor by tensor.
class Wire {
 public:
  explicit Wire(Tensor buffer) : buffer_(std::move(buffer)) {}
  Tensor next(IntArrayRef sizes) {
    const int64_t n = c10::multiply_integers(sizes);
    const Tensor part = buffer_.narrow(0, at_, n).view(sizes);
    at_ += n;
    return part;
  }

 private:
  Tensor buffer_;
  int64_t at_ = 0;
};

Tensor empty_in_order(const Tensor& t, IntArrayRef sizes, IntArrayRef order) {
  std::vector<int64_t> in_memory, back(sizes.size());
  for (size_t i = 0; i < order.size(); ++i) {
    in_memory.push_back(sizes[static_cast<size_t>(order[i])]);
    back[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  }
  return t.new_empty(in_memory).permute(back);
}

Flight take_off(TensorList tensors, int64_t cut, int64_t join, IntArrayRef cut_counts, IntArrayRef join_counts,
                Communicator& group, std::string_view name) {
  std::vector<int64_t> to(cut_counts.size(), 0), from(to);
  const int64_t own = cut_counts[static_cast<size_t>(group.rank())];
  for (const Tensor& t : tensors) {
    KINORA_ASSERT(t.size(cut) == comm::sum(cut_counts));
    to = plus(std::move(to), elements(t.sizes(), cut, cut_counts));
    from = plus(std::move(from), elements(with_size(t, cut, own), join, join_counts));
  }
  Flight flight{tensors[0].new_empty({comm::sum(to)}), tensors[0].new_empty({comm::sum(from)}), nullptr};
  Wire outgoing(flight.sent);
  int64_t begin = 0;
  for (const int64_t n : cut_counts) {
    for (const Tensor& t : tensors) outgoing.next(with_size(t, cut, n)).copy_(t.narrow(cut, begin, n));
    begin += n;
  }
  flight.work = group.all_to_all(flight.got, flight.sent, from, to, name);
  return flight;
}

// parallel_switch

std::vector<Tensor> switch_meta(TensorList tensors, int64_t cut, int64_t join, IntArrayRef cut_counts,
                                IntArrayRef join_counts, IntArrayRef order, int64_t group, std::string_view, int64_t) {
  std::vector<Tensor> out;
  const auto rank = static_cast<size_t>(rank_of(group));
  for (const Tensor& t : tensors) {
    std::vector<int64_t> sizes = with_size(t, cut, cut_counts[rank]);
    sizes[static_cast<size_t>(join)] = comm::sum(join_counts);
    out.push_back(empty_in_order(t, sizes, order.empty() ? IntArrayRef(memory_order(t)) : order));
  }
  return out;
}

/// `flight`: the address of one that has taken off with the same arguments, or 0.
std::vector<Tensor> switch_now(TensorList tensors, int64_t cut, int64_t join, IntArrayRef cut_counts,
                               IntArrayRef join_counts, IntArrayRef order, int64_t group, std::string_view name,
                               int64_t flight) {
  std::vector<Tensor> out = switch_meta(tensors, cut, join, cut_counts, join_counts, order, group, name, flight);
  Flight now;
  if (flight == 0) now = take_off(tensors, cut, join, cut_counts, join_counts, group_of(group), name);
  const Flight& landing = flight == 0 ? now : *reinterpret_cast<const Flight*>(flight);  // NOLINT
  landing.work->wait();
  Wire incoming(landing.got);
  int64_t begin = 0;
  for (const int64_t n : join_counts) {
    for (const Tensor& t : out) t.narrow(join, begin, n).copy_(incoming.next(with_size(t, join, n)));
    begin += n;
  }
  return out;
}

// parallel_gather

Tensor gather_meta(const Tensor& part, int64_t dim, IntArrayRef counts, int64_t, std::string_view) {
  return part.new_empty(with_size(part, dim, comm::sum(counts)));
}

Tensor gather_now(const Tensor& part, int64_t dim, IntArrayRef counts, int64_t group, std::string_view name) {
  Tensor out = gather_meta(part, dim, counts, group, name);
  const std::vector<int64_t> each = elements(out.sizes(), dim, counts);
  const Tensor mine = part.contiguous();
  const bool is_outermost = c10::multiply_integers(part.sizes().slice(0, static_cast<size_t>(dim))) == 1;
  if (is_outermost) {  // the wire's order is the result's
    group_of(group).all_gather(out.view(-1), mine.view(-1), each, name)->wait();
    return out;
  }
  const Tensor got = part.new_empty({comm::sum(each)});
  group_of(group).all_gather(got, mine.view(-1), each, name)->wait();
  Wire incoming(got);
  int64_t begin = 0;
  for (const int64_t n : counts) {
    out.narrow(dim, begin, n).copy_(incoming.next(with_size(out, dim, n)));
    begin += n;
  }
  return out;
}

// parallel_scatter_sum

Tensor scatter_meta(const Tensor& partial, int64_t dim, IntArrayRef counts, int64_t group, std::string_view) {
  return empty_part(partial, dim, counts, rank_of(group));
}

Tensor scatter_now(const Tensor& partial, int64_t dim, IntArrayRef counts, int64_t group, std::string_view name) {
  Tensor out = scatter_meta(partial, dim, counts, group, name);
  const std::vector<int64_t> each = elements(partial.sizes(), dim, counts);
  const Tensor sent = partial.new_empty({comm::sum(each)});
  Wire outgoing(sent);
  int64_t begin = 0;
  for (const int64_t n : counts) {
    outgoing.next(with_size(partial, dim, n)).copy_(partial.narrow(dim, begin, n));
    begin += n;
  }
  group_of(group).reduce_scatter(out.view(-1), sent, each, name)->wait();
  return out;
}

// parallel_sum

Tensor sum_meta(const Tensor& partial, int64_t, std::string_view) {
  return at::empty_like(partial, at::MemoryFormat::Contiguous);
}

Tensor sum_now(const Tensor& partial, int64_t group, std::string_view name) {
  Tensor total = partial.clone(at::MemoryFormat::Contiguous);
  group_of(group).all_reduce(total.view(-1), name)->wait();
  return total;
}

std::vector<Tensor> switch_with_grad(TensorList tensors, int64_t cut, int64_t join, IntArrayRef cut_counts,
                                     IntArrayRef join_counts, IntArrayRef order, int64_t group, std::string_view name,
                                     int64_t flight);
Tensor gather_with_grad(const Tensor& part, int64_t dim, IntArrayRef counts, int64_t group, std::string_view name);
Tensor scatter_with_grad(const Tensor& partial, int64_t dim, IntArrayRef counts, int64_t group, std::string_view name);
Tensor sum_with_grad(const Tensor& partial, int64_t group, std::string_view name);

const ops::Operator<&switch_now, &switch_meta> switch_op(
    "kinora::parallel_switch(Tensor[] tensors, int cut, int join, int[] cut_counts, int[] join_counts, int[] order, "
    "int group, str name, int flight) -> Tensor[]",
    &switch_now, &switch_now, &switch_with_grad);
const ops::Operator<&gather_now, &gather_meta> gather_op(
    "kinora::parallel_gather(Tensor part, int dim, int[] counts, int group, str name) -> Tensor", &gather_now,
    &gather_now, &gather_with_grad);
const ops::Operator<&scatter_now, &scatter_meta> scatter_op(
    "kinora::parallel_scatter_sum(Tensor partial, int dim, int[] counts, int group, str name) -> Tensor", &scatter_now,
    &scatter_now, &scatter_with_grad);
const ops::Operator<&sum_now, &sum_meta> sum_op("kinora::parallel_sum(Tensor partial, int group, str name) -> Tensor",
                                                &sum_now, &sum_now, &sum_with_grad);

/// What an exchange's backward needs besides the gradient.
void save(AutogradContext* context, int64_t dim, IntArrayRef counts, int64_t group, std::string_view name) {
  context->saved_data["dim"] = dim;
  context->saved_data["counts"] = counts.vec();
  context->saved_data["group"] = group;
  context->saved_data["name"] = std::string(name) + kBackward;
}

struct SwitchFunction : torch::autograd::Function<SwitchFunction> {
  static variable_list forward(AutogradContext* context, TensorList tensors, int64_t cut, int64_t join,
                               IntArrayRef cut_counts, IntArrayRef join_counts, IntArrayRef order, int64_t group,
                               std::string_view name, int64_t flight) {
    save(context, cut, cut_counts, group, name);
    context->saved_data["join"] = join;
    context->saved_data["join_counts"] = join_counts.vec();
    at::AutoDispatchBelowADInplaceOrView below;
    return switch_op(tensors, cut, join, cut_counts, join_counts, order, group, name, flight);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    auto& saved = context->saved_data;
    const std::vector<int64_t> counts = saved["counts"].toIntVector(), join_counts = saved["join_counts"].toIntVector();
    variable_list out = switch_op(grads, saved["join"].toInt(), saved["dim"].toInt(), join_counts, counts, {},
                                  saved["group"].toInt(), saved["name"].toStringRef(), 0);
    out.resize(out.size() + 8);  // nothing of the arguments that are no tensors
    return out;
  }
};

/// Of one tensor along one dimension: `kForward`, and `kBackward` of the gradient.
template <auto& kForward, auto& kBackward>
struct Transposed : torch::autograd::Function<Transposed<kForward, kBackward>> {
  static Tensor forward(AutogradContext* context, const Tensor& t, int64_t dim, IntArrayRef counts, int64_t group,
                        std::string_view name) {
    save(context, dim, counts, group, name);
    at::AutoDispatchBelowADInplaceOrView below;
    return kForward(t, dim, counts, group, name);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    auto& saved = context->saved_data;
    const std::vector<int64_t> counts = saved["counts"].toIntVector();
    return {kBackward(grads[0], saved["dim"].toInt(), counts, saved["group"].toInt(), saved["name"].toStringRef()),
            Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

struct SumFunction : torch::autograd::Function<SumFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& partial, int64_t group, std::string_view name) {
    save(context, 0, {}, group, name);
    at::AutoDispatchBelowADInplaceOrView below;
    return sum_op(partial, group, name);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    auto& saved = context->saved_data;
    return {sum_op(grads[0], saved["group"].toInt(), saved["name"].toStringRef()), Tensor(), Tensor()};
  }
};

std::vector<Tensor> switch_with_grad(TensorList tensors, int64_t cut, int64_t join, IntArrayRef cut_counts,
                                     IntArrayRef join_counts, IntArrayRef order, int64_t group, std::string_view name,
                                     int64_t flight) {
  return SwitchFunction::apply(tensors, cut, join, cut_counts, join_counts, order, group, name, flight);
}

Tensor gather_with_grad(const Tensor& part, int64_t dim, IntArrayRef counts, int64_t group, std::string_view name) {
  return Transposed<gather_op, scatter_op>::apply(part, dim, counts, group, name);
}

Tensor scatter_with_grad(const Tensor& partial, int64_t dim, IntArrayRef counts, int64_t group, std::string_view name) {
  return Transposed<scatter_op, gather_op>::apply(partial, dim, counts, group, name);
}

Tensor sum_with_grad(const Tensor& partial, int64_t group, std::string_view name) {
  return SumFunction::apply(partial, group, name);
}

}  // namespace

int64_t handle_of(Communicator& group) { return reinterpret_cast<int64_t>(&group); }  // NOLINT

Communicator& group_of(int64_t handle) { return *reinterpret_cast<Communicator*>(handle); }  // NOLINT

std::vector<int64_t> memory_order(const Tensor& t) {
  std::vector<int64_t> order(static_cast<size_t>(t.dim()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return t.stride(a) > t.stride(b); });
  return order;
}

Switching::Switching(std::vector<Tensor> tensors, Switch which, Communicator& group, const std::string& name)
    : tensors_(std::move(tensors)), which_(std::move(which)), group_(&group), name_(name) {
  if (group.size() == 1 || tensors_[0].is_meta()) return;
  const at::NoGradGuard no_grad;  // gradients go through the operator that waits
  flight_ = take_off(tensors_, which_.cut, which_.join, which_.cut_counts, which_.join_counts, group, name_);
}

std::vector<Tensor> Switching::wait() {
  std::vector<Tensor> tensors = std::move(tensors_);
  if (group_->size() == 1) return tensors;
  const Flight flight = std::move(flight_);
  return switch_op(tensors, which_.cut, which_.join, which_.cut_counts, which_.join_counts, which_.order,
                   handle_of(*group_), name_, flight.work ? reinterpret_cast<int64_t>(&flight) : 0);  // NOLINT
}

std::vector<Tensor> switch_dims(TensorList tensors, const Switch& which, Communicator& group, const std::string& name) {
  return Switching(tensors.vec(), which, group, name).wait();
}

Tensor gather(const Tensor& part, int64_t dim, IntArrayRef counts, Communicator& group, const std::string& name) {
  return group.size() == 1 ? part : gather_op(part, dim, counts, handle_of(group), name);
}

Tensor scatter_sum(const Tensor& partial, int64_t dim, IntArrayRef counts, Communicator& group,
                   const std::string& name) {
  return group.size() == 1 ? partial : scatter_op(partial, dim, counts, handle_of(group), name);
}

Tensor sum(const Tensor& partial, Communicator& group, const std::string& name) {
  return group.size() == 1 ? partial : sum_op(partial, handle_of(group), name);
}

}  // namespace kinora::parallel
