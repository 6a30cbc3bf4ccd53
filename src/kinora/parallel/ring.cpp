#include "kinora/parallel/ring.h"

#include <torch/csrc/autograd/custom_function.h>

#include <functional>
#include <tuple>

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"
#include "kinora/ops/register.h"
#include "kinora/parallel/block_attention.h"

namespace kinora::parallel {
namespace {

using at::IntArrayRef;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::ScalarType wide(const Tensor& t) { return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

/// A message under way, both directions of it. Nothing is sent where nothing is in it; both ends know.
class Hop {
 public:
  Hop(Communicator& group, const std::string& name) : group_(group), name_(name) {}
  Hop(const Hop&) = delete;
  Hop& operator=(const Hop&) = delete;
  void start(const Tensor& to_next, const Tensor& from_before) {
    const int n = group_.size(), rank = group_.rank();
    if (from_before.numel() > 0) receiving_ = group_.recv(from_before.view(-1), (rank + n - 1) % n, name_);
    if (to_next.numel() > 0) sending_ = group_.send(to_next.view(-1), (rank + 1) % n, name_);
  }
  void wait() {
    if (receiving_) receiving_->wait();
    if (sending_) sending_->wait();
    receiving_.reset(), sending_.reset();
  }

 private:
  Communicator& group_;
  std::string name_;
  std::unique_ptr<comm::Work> receiving_, sending_;
};

/// Calls visit(owner, keys, values) for the parts of all ranks: this rank's own, then those of the ranks before it.
/// Between two calls the next part is under way.
void pass_around(const Tensor& k, const Tensor& v, IntArrayRef counts, Communicator& group, const std::string& name,
                 const std::function<void(int, const Tensor&, const Tensor&)>& visit) {
  const int n = group.size();
  Tensor here = at::stack({k, v});
  for (int step = 0; step < n; ++step) {
    const int owner = (group.rank() - step + n) % n, next = (owner - 1 + n) % n;
    Tensor coming;
    Hop hop(group, name);  // gone before the buffers, whatever is thrown
    if (step + 1 < n) {
      std::vector<int64_t> sizes = here.sizes().vec();
      sizes[3] = counts[static_cast<size_t>(next)];
      coming = here.new_empty(sizes);
      hop.start(here, coming);
    }
    visit(owner, here[0], here[1]);
    hop.wait();
    here = coming;
  }
}

std::tuple<Tensor, Tensor> ring_meta(const Tensor& q, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                     int64_t, IntArrayRef, int64_t, std::string_view) {
  return {q.new_empty(q.sizes()), at::empty(q.sizes().slice(0, 3), q.options().dtype(wide(q)))};
}

/// q [G, A, L + R, D], text before video; text_k and text_v may have no rows.
std::tuple<Tensor, Tensor> ring_now(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& text_k,
                                    const Tensor& text_v, int64_t text_queries, IntArrayRef counts, int64_t group,
                                    std::string_view name) {
  const Tensor queries = q.contiguous();
  const int64_t video_queries = q.size(2) - text_queries;
  Partial video;
  std::vector<Partial> text(counts.size() + 1);  // by rank, behind the text's own
  const auto add = [&](size_t place, const Tensor& keys, const Tensor& values) {
    if (keys.size(2) == 0) return;
    const Partial part = attend_part(queries, keys, values);
    video = merge(video,
                  {part.out.narrow(2, text_queries, video_queries), part.lse.narrow(2, text_queries, video_queries)});
    text[place] = {part.out.narrow(2, 0, text_queries).clone(), part.lse.narrow(2, 0, text_queries).clone()};
  };
  add(0, text_k.contiguous(), text_v.contiguous());
  pass_around(
      k, v, counts, group_of(group), std::string(name),
      [&](int owner, const Tensor& keys, const Tensor& values) { add(static_cast<size_t>(owner) + 1, keys, values); });
  Partial of_text;
  for (const Partial& part : text) {
    if (part.out.defined()) of_text = merge(of_text, part);
  }
  KINORA_ASSERT(video.out.defined());
  return {at::cat({of_text.out, video.out}, 2).to(q.scalar_type()), at::cat({of_text.lse, video.lse}, 2)};
}

std::vector<Tensor> backward_meta(const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v,
                                  const Tensor& text_k, const Tensor& text_v, const Tensor&, const Tensor&, IntArrayRef,
                                  int64_t, std::string_view) {
  std::vector<Tensor> out;
  for (const Tensor* t : {&q, &k, &v, &text_k, &text_v}) out.push_back(t->new_empty(t->sizes()));
  return out;
}

/// The gradients of a rank's keys and values start at the rank behind it, are added to by each rank that sees those
/// keys, and come home from the rank before it: one hop fewer than if they set out at home.
std::vector<Tensor> backward_now(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& text_k, const Tensor& text_v, const Tensor& out, const Tensor& lse,
                                 IntArrayRef counts, int64_t handle, std::string_view name) {
  Communicator& group = group_of(handle);
  const int n = group.size();
  const Tensor g = grad.contiguous(), queries = q.contiguous();
  const auto type = wide(q);
  Tensor of_q = at::zeros(q.sizes(), q.options().dtype(type));
  const auto of_part = [&](const Tensor& keys, const Tensor& values) {  // [2, G, A, M, D]
    if (keys.size(2) == 0) return at::zeros({2, k.size(0), k.size(1), 0, k.size(3)}, of_q.options());
    const PartGradients part = attend_part_backward(g, queries, keys, values, {out, lse});
    of_q.add_(part.q);
    return at::stack({part.k, part.v}).to(type);
  };
  const Tensor of_text = of_part(text_k.contiguous(), text_v.contiguous());
  const std::string gradients = std::string(name) + " gradients", keys_name = std::string(name) + " backward";
  Tensor of_own, leaving, coming;  // gradients: of this rank's keys; sent on; under way to here
  Hop hop(group, gradients);
  pass_around(k, v, counts, group, keys_name, [&](int owner, const Tensor& keys, const Tensor& values) {
    const Tensor here = of_part(keys, values);
    if (owner == group.rank()) {
      of_own = here;
      return;
    }
    hop.wait();
    leaving = coming.defined() ? coming.add_(here) : here;
    std::vector<int64_t> sizes = here.sizes().vec();  // what the rank before sends now belongs to the owner before
    sizes[3] = counts[static_cast<size_t>((owner - 1 + n) % n)];
    coming = at::empty(sizes, here.options());
    hop.start(leaving, coming);
  });
  hop.wait();
  if (coming.defined()) of_own = of_own + coming;
  return {of_q.to(q.scalar_type()), of_own[0].to(k.scalar_type()), of_own[1].to(v.scalar_type()),
          of_text[0].to(text_k.scalar_type()), of_text[1].to(text_v.scalar_type())};
}

std::tuple<Tensor, Tensor> ring_with_grad(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& text_k,
                                          const Tensor& text_v, int64_t text_queries, IntArrayRef counts, int64_t group,
                                          std::string_view name);

const ops::Operator<&ring_now, &ring_meta> ring_op(
    "kinora::parallel_ring(Tensor q, Tensor k, Tensor v, Tensor text_k, Tensor text_v, int text_queries, int[] counts, "
    "int group, str name) -> (Tensor, Tensor)",
    &ring_now, &ring_now, &ring_with_grad);
const ops::Operator<&backward_now, &backward_meta> backward_op(
    "kinora::parallel_ring_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor text_k, Tensor text_v, Tensor "
    "out, Tensor lse, int[] counts, int group, str name) -> Tensor[]");

struct RingFunction : torch::autograd::Function<RingFunction> {
  static variable_list forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                               const Tensor& text_k, const Tensor& text_v, int64_t text_queries, IntArrayRef counts,
                               int64_t group, std::string_view name) {
    at::AutoDispatchBelowADInplaceOrView below;
    const auto [out, lse] = ring_op(q, k, v, text_k, text_v, text_queries, counts, group, name);
    context->save_for_backward({q, k, v, text_k, text_v, out, lse});
    context->mark_non_differentiable({lse});
    context->saved_data["counts"] = counts.vec();
    context->saved_data["group"] = group;
    context->saved_data["name"] = std::string(name);
    return {out, lse};
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list s = context->get_saved_variables();
    auto& data = context->saved_data;
    const std::vector<int64_t> counts = data["counts"].toIntVector();
    variable_list of = backward_op(grads[0], s[0], s[1], s[2], s[3], s[4], s[5], s[6], counts, data["group"].toInt(),
                                   data["name"].toStringRef());
    of.resize(of.size() + 4);
    return of;
  }
};

std::tuple<Tensor, Tensor> ring_with_grad(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& text_k,
                                          const Tensor& text_v, int64_t text_queries, IntArrayRef counts, int64_t group,
                                          std::string_view name) {
  const variable_list both = RingFunction::apply(q, k, v, text_k, text_v, text_queries, counts, group, name);
  return {both[0], both[1]};
}

}  // namespace

Streams ring_attention(const Heads& video, const Heads* text, IntArrayRef counts, Communicator& group,
                       const std::string& name) {
  KINORA_ASSERT(static_cast<int>(counts.size()) == group.size() && video.v.sizes() == video.k.sizes());
  KINORA_ASSERT(video.k.size(2) == counts[static_cast<size_t>(group.rank())]);
  const int64_t text_rows = text ? text->q.size(2) : 0;
  const Tensor none = video.k.narrow(2, 0, 0);
  const Tensor q = text ? at::cat({text->q, video.q}, 2) : video.q;
  const auto [out, lse] = ring_op(q, video.k, video.v, text ? text->k : none, text ? text->v : none, text_rows, counts,
                                  handle_of(group), name);
  if (!text) return {out};
  return {out.narrow(2, text_rows, out.size(2) - text_rows), out.narrow(2, 0, text_rows)};
}

}  // namespace kinora::parallel
