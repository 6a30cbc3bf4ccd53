#include "kinora/offload/quantised.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>

#include "kinora/offload/streamed.h"

namespace kinora::offload {
namespace {

constexpr int64_t kElementsAtOnce = int64_t{1} << 20;  // of a matrix that becomes bytes

ByteRows empty_bytes(const Param& param, ByteFormat format, at::Device device) {
  const at::ScalarType type = format == ByteFormat::fp8 ? at::kFloat8_e4m3fn : at::kChar;
  const auto options = at::TensorOptions().device(device);
  return {at::empty(param.shape, options.dtype(type)), at::empty({param.shape[0], 1}, options.dtype(at::kFloat))};
}

ByteRows bytes_of(const Param& param, WeightStore& store, const ByteOptions& options) {
  ByteRows out = empty_bytes(param, options.format, options.device);
  const int64_t all = param.shape[0], width = param.shape[1];
  const int64_t step = std::max<int64_t>(1, kElementsAtOnce / std::max<int64_t>(1, width));
  for (int64_t first = 0; first < all; first += step) {
    const Tensor rows = at::empty({std::min(step, all - first), width},
                                  at::TensorOptions().device(options.device).dtype(store.dtype()));
    store.copy(param, first, rows);
    const ByteRows bytes = ops::to_byte_rows(rows, options.format);
    out.values.narrow(0, first, rows.size(0)).copy_(bytes.values);
    out.scales.narrow(0, first, rows.size(0)).copy_(bytes.scales);
  }
  return out;
}

}  // namespace

bool is_product_weight(const Param& param) {
  if (param.shape.size() != 2 || !param.name.ends_with(".weight")) return false;
  const std::string_view module(param.name.data(), param.name.size() - std::string_view(".weight").size());
  constexpr std::array<std::string_view, 5> kTables{"embed_tokens", "embed_positions", "shared", "position_embedding",
                                                    "relative_attention_bias"};
  return std::none_of(kTables.begin(), kTables.end(), [&](std::string_view table) { return module.ends_with(table); });
}

int64_t ByteParams::num_bytes() const {
  int64_t total = 0;
  for (const Tensor& t : whole) total += t.defined() ? static_cast<int64_t>(t.nbytes()) : 0;
  for (const ByteRows& b : bytes) total += b.defined() ? b.bytes() : 0;
  return total;
}

ByteParams to_byte_params(const Params& params, WeightStore& store, const ByteOptions& options) {
  const at::NoGradGuard no_grad;
  ByteParams out{.dtype = store.dtype()};
  for (const Param& p : params) {
    const bool is_chosen = options.choice(p);
    out.whole.push_back(is_chosen ? Tensor() : resident_tensor(p, store, options.device));
    out.bytes.push_back(is_chosen ? bytes_of(p, store, options) : ByteRows());
  }
  return out;
}

ByteParams shape_of_byte_params(const Params& params, at::ScalarType dtype, ByteFormat format) {
  ByteParams out{.dtype = dtype};
  for (const Param& p : params) {
    const bool is_chosen = is_product_weight(p);
    out.whole.push_back(is_chosen ? Tensor() : at::empty(p.shape, at::TensorOptions(at::kMeta).dtype(dtype)));
    out.bytes.push_back(is_chosen ? empty_bytes(p, format, at::kMeta) : ByteRows());
  }
  return out;
}

Tensor QuantisedWeights::get(const Param& param) {
  const ByteRows& bytes = params_.bytes.at(static_cast<size_t>(param.id));
  if (!bytes.defined()) return params_.whole[static_cast<size_t>(param.id)];
  return ops::from_byte_rows(bytes, 0, param.shape[0], params_.dtype);
}

Tensor QuantisedWeights::linear(const Tensor& x, const Param& weight, const Param* bias) {
  const ByteRows& bytes = params_.bytes.at(static_cast<size_t>(weight.id));
  if (!bytes.defined()) return WeightSource::linear(x, weight, bias);
  return ops::byte_linear(x, bytes, bias ? std::optional<Tensor>(get(*bias)) : std::nullopt);
}

uint64_t QuantisedStore::copy(const Param& param, int64_t first, const Tensor& place) {
  const ByteRows& bytes = params_.bytes.at(static_cast<size_t>(param.id));
  if (!bytes.defined()) {
    copy_rows(params_.whole[static_cast<size_t>(param.id)], first, place);
    return place.nbytes();
  }
  const int64_t rows = place.size(0);
  if (place.is_cpu()) {
    place.copy_(ops::from_byte_rows(bytes, first, rows, place.scalar_type()));
  } else {
    const auto over = [&](const Tensor& t) { return t.narrow(0, first, rows).to(place.device(), true); };
    place.copy_(ops::from_byte_rows({over(bytes.values), over(bytes.scales)}, 0, rows, place.scalar_type()));
  }
  return static_cast<uint64_t>(rows * (bytes.values.size(1) + static_cast<int64_t>(sizeof(float))));
}

}  // namespace kinora::offload
