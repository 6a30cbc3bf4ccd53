#include "kinora/ops/fused_backward.h"

#include "kinora/base/error.h"
#include "kinora/ops/fused_host.h"

namespace kinora::ops::cpu {
namespace {

constexpr int64_t kChunkRows = 256;       // rows whose sums one thread takes; fixed, for the bits' sake
constexpr int64_t kChunkHeads = 8 * 256;  // heads are narrower

bool is_row_tensor(const Tensor& x) { return x.is_cpu() && has_kernel(x) && is_rows(x, x, x.size(-1)); }

/// How many rows of x in a run share one row of t; 0 where they are no run.
int64_t rows_for_each(const Tensor& t, const Tensor& x) {
  if (!is_rows(t, x, x.size(-1))) return 0;
  const int64_t missing = x.dim() - t.dim(), last = x.dim() - 1;
  const auto size = [&](int64_t d) { return d < missing ? 1 : t.size(d - missing); };
  int64_t d = 0, rows = 1;
  while (d < last && size(d) == x.size(d)) ++d;
  for (; d < last; ++d) {
    if (size(d) != 1) return 0;
    rows *= x.size(d);
  }
  return rows;
}

Tensor with_rows(const Tensor& grad) { return grad.size(-1) == 1 || grad.stride(-1) == 1 ? grad : grad.contiguous(); }

/// Runs of equally many rows, each cut into chunks, with room for a row of sums for each chunk.
class Chunks {
 public:
  Chunks(int64_t rows, int64_t run, int64_t chunk, int64_t width)
      : run_(run), chunk_(chunk), width_(width), runs_(rows / run), per_run_((run + chunk - 1) / chunk) {}

  Tensor sums() const { return at::zeros({runs_ * per_run_, up_to_lanes(width_)}, at::kFloat); }

  /// work(scratch, chunk, begin, end)
  template <typename Work>
  void run(int64_t scratch_size, const Work& work) const {
    for_rows(runs_ * per_run_, std::min(run_, chunk_) * width_, scratch_size,
             [&](float* scratch, int64_t begin, int64_t end) {
               for (int64_t c = begin; c < end; ++c) {
                 const int64_t first = c / per_run_ * run_, from = c % per_run_ * chunk_;
                 work(scratch, c, first + from, first + std::min(run_, from + chunk_));
               }
             });
  }

  /// A row for each run: its chunks' sums, added in order.
  Tensor total(const Tensor& sums, at::IntArrayRef shape, at::ScalarType dtype) const {
    const int64_t padded = sums.size(1);
    float* const all = sums.mutable_data_ptr<float>();
    for (int64_t r = 0; r < runs_; ++r) {
      float* const first = all + r * per_run_ * padded;
      for (int64_t c = 1; c < per_run_; ++c) {
        for (int64_t i = 0; i < width_; ++i) first[i] += first[c * padded + i];
      }
    }
    const Tensor rows = sums.view({runs_, per_run_, padded}).select(1, 0).narrow(1, 0, width_);
    return rows.to(dtype).reshape(shape);
  }

 private:
  int64_t run_, chunk_, width_, runs_, per_run_;
};

template <typename T, typename Table>
NormRotaryGrads norm_rotary_backward_as(const Tensor& grad, const Tensor& x, const MaybeTensor& weight, double eps,
                                        const MaybeTensor& cos, const MaybeTensor& sin) {
  const int64_t width = x.size(-1), rows = x.numel() / width, padded = up_to_lanes(width);
  const Tensor out = at::empty_like(x);  // in x's order, without the gaps of a slice
  const HeadGradRows<T, Table> a{.x = rows_of<T>(x, x, width),
                                 .grad = rows_of<T>(grad, x, width),
                                 .weight = data<T>(weight),
                                 .cos = rows_of<Table>(cos, x, width / 2),
                                 .sin = rows_of<Table>(sin, x, width / 2),
                                 .out = rows_of<T>(out, x, width),
                                 .width = width,
                                 .eps = static_cast<float>(eps)};
  const Chunks chunks(rows, rows, kChunkHeads, width);
  const Tensor sums = chunks.sums();
  auto* const of_weight = sums.mutable_data_ptr<float>();
  chunks.run(4 * padded, [&](float* scratch, int64_t chunk, int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<T, Table>) {
      kernels<T>().norm_rotary_backward(a, scratch, of_weight + chunk * padded, begin, end);
    } else {
      kernels<T>().norm_rotary_backward_float(a, scratch, of_weight + chunk * padded, begin, end);
    }
  });
  return {out, weight ? chunks.total(sums, {width}, x.scalar_type()) : Tensor()};
}

}  // namespace

void refuse_second_backward(const char* op) {
  if (!at::GradMode::is_enabled()) return;
  throw UsageError(concat(op, ": its backward on the CPU records no graph of its own"),
                   "take gradients without create_graph, or in float64, whose operators record their parts");
}

bool has_layer_norm_backward(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias,
                             const MaybeTensor& scale, const MaybeTensor& shift) {
  if (weight || bias || !is_row_tensor(x)) return false;
  if (scale && shift && scale->sizes() != shift->sizes()) return false;
  return (!scale || rows_for_each(*scale, x) > 0) && (!shift || rows_for_each(*shift, x) > 0);
}

LayerNormGrads layer_norm_backward(const Tensor& any_grad, const Tensor& x, const MaybeTensor& scale,
                                   const Tensor& like, double eps, bool wants_scale, bool wants_shift) {
  const int64_t width = x.size(-1), rows = x.numel() / width, padded = up_to_lanes(width);
  const Tensor grad = with_rows(any_grad), out = at::empty_like(x, at::MemoryFormat::Contiguous);
  const Chunks chunks(rows, like.defined() ? rows_for_each(like, x) : rows, kChunkRows, width);
  const Tensor of_scale = wants_scale ? chunks.sums() : Tensor(), of_shift = wants_shift ? chunks.sums() : Tensor();
  const auto sums_at = [&](const Tensor& sums, int64_t chunk) {
    return sums.defined() ? sums.mutable_data_ptr<float>() + chunk * padded : nullptr;
  };
  for_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const LayerNormGradRows<T> a{.x = rows_of<T>(x, x, width),
                                 .scale = rows_of<T>(scale, x, width),
                                 .grad = rows_of<T>(grad, x, width),
                                 .out = mutable_data<T>(out),
                                 .width = width,
                                 .eps = static_cast<float>(eps)};
    chunks.run(2 * padded, [&](float* scratch, int64_t chunk, int64_t begin, int64_t end) {
      kernels<T>().layer_norm_backward(a, scratch, sums_at(of_scale, chunk), sums_at(of_shift, chunk), begin, end);
    });
  });
  const auto total = [&](const Tensor& sums) {
    return sums.defined() ? chunks.total(sums, like.sizes(), x.scalar_type()) : Tensor();
  };
  return {out, total(of_scale), total(of_shift)};
}

bool has_gelu_tanh_backward(const Tensor& x) { return x.is_cpu() && has_kernel(x) && x.is_non_overlapping_and_dense(); }

Tensor gelu_tanh_backward(const Tensor& any_grad, const Tensor& x) {
  const Tensor out = at::empty_like(x);
  const Tensor grad = any_grad.strides() == x.strides() ? any_grad : at::empty_like(x).copy_(any_grad);
  for_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    for_rows(x.numel(), 1, 0, [&](float*, int64_t begin, int64_t end) {
      kernels<T>().gelu_tanh_backward(data<T>(x) + begin, data<T>(grad) + begin, mutable_data<T>(out) + begin,
                                      end - begin);
    });
  });
  return out;
}

bool has_residual_backward(const Tensor& x, const Tensor& y, const MaybeTensor& gate) {
  return gate && is_row_tensor(y) && x.scalar_type() == y.scalar_type() && rows_for_each(*gate, y) > 0;
}

ResidualGrads residual_backward(const Tensor& any_grad, const Tensor& y, const Tensor& gate, bool wants_gate) {
  const int64_t width = y.size(-1), rows = y.numel() / width, padded = up_to_lanes(width);
  const Tensor grad = with_rows(any_grad), out = at::empty_like(y, at::MemoryFormat::Contiguous);
  const Chunks chunks(rows, rows_for_each(gate, y), kChunkRows, width);
  const Tensor of_gate = wants_gate ? chunks.sums() : Tensor();
  for_dtype(y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const ResidualGradRows<T> a{.y = rows_of<T>(y, y, width),
                                .gate = rows_of<T>(gate, y, width),
                                .grad = rows_of<T>(grad, y, width),
                                .out = mutable_data<T>(out),
                                .width = width};
    chunks.run(0, [&](float*, int64_t chunk, int64_t begin, int64_t end) {
      float* const sums = wants_gate ? of_gate.mutable_data_ptr<float>() + chunk * padded : nullptr;
      kernels<T>().residual_backward(a, sums, begin, end);
    });
  });
  return {out, wants_gate ? chunks.total(of_gate, gate.sizes(), y.scalar_type()) : Tensor()};
}

bool has_norm_rotary_backward(const Tensor& x, const MaybeTensor& weight, const MaybeTensor& bias,
                              const MaybeTensor& cos, const MaybeTensor& sin) {
  if (bias || !is_row_tensor(x)) return false;
  if (!is_rows(weight, x, x.size(-1))) return false;
  if (!cos) return true;
  const auto fits = [&](const Tensor& t) { return !t.requires_grad() && has_rows(t, x, x.size(-1) / 2); };
  const auto table = cos->scalar_type();
  return x.size(-1) % 2 == 0 && (table == at::kFloat || table == x.scalar_type()) && sin->scalar_type() == table &&
         sin->sizes() == cos->sizes() && sin->strides() == cos->strides() && fits(*cos) && fits(*sin);
}

NormRotaryGrads norm_rotary_backward(const Tensor& any_grad, const Tensor& x, const MaybeTensor& weight, double eps,
                                     const MaybeTensor& cos, const MaybeTensor& sin) {
  const Tensor grad = with_rows(any_grad);
  return for_dtype(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    return cos && cos->scalar_type() == at::kFloat ? norm_rotary_backward_as<T, float>(grad, x, weight, eps, cos, sin)
                                                   : norm_rotary_backward_as<T, T>(grad, x, weight, eps, cos, sin);
  });
}

}  // namespace kinora::ops::cpu
