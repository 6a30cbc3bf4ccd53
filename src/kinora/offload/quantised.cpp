#include "kinora/offload/quantised.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>

namespace kinora::offload {

bool is_product_weight(const Param& param) {
  if (param.shape.size() != 2 || !param.name.ends_with(".weight")) return false;
  const std::string_view module(param.name.data(), param.name.size() - std::string_view(".weight").size());
  constexpr std::array<std::string_view, 4> kTables{"embed_tokens", "embed_positions", "shared", "position_embedding"};
  return std::none_of(kTables.begin(), kTables.end(), [&](std::string_view table) { return module.ends_with(table); });
}

int64_t ByteParams::num_bytes() const {
  int64_t total = 0;
  for (const Tensor& t : whole) total += t.defined() ? static_cast<int64_t>(t.nbytes()) : 0;
  for (const ByteRows& b : bytes) total += b.defined() ? b.bytes() : 0;
  return total;
}

ByteParams to_byte_params(const Params& params, WeightSource& source, ByteFormat format, const ByteChoice& choice) {
  const at::NoGradGuard no_grad;
  ByteParams out;
  for (const Param& p : params) {
    const Tensor value = source.get(p);
    out.dtype = value.scalar_type();
    const bool is_chosen = choice(p);
    out.whole.push_back(is_chosen ? Tensor() : value);
    out.bytes.push_back(is_chosen ? ops::to_byte_rows(value, format) : ByteRows());
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
