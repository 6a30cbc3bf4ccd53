#include "kinora/models/decoder/kv_cache.h"

#include <algorithm>

#include "kinora/base/error.h"

namespace kinora::models::decoder {
namespace {

constexpr int64_t kFirstRoom = 64;

}  // namespace

KvCache::KvCache(const DecoderConfig& config, int64_t batch, int64_t tokens, at::ScalarType dtype, at::Device device) {
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers_.push_back(
        at::empty({2, batch, config.num_key_value_heads, tokens, config.head_dim}, at::dtype(dtype).device(device)));
  }
}

void KvCache::cut(int64_t length) {
  if (length < 0 || length > length_) {
    throw UsageError(concat("a cache of ", length_, " tokens cannot be cut to ", length));
  }
  length_ = length;
}

Tensor KvCache::append(int64_t layer, const Tensor& rows) {
  KINORA_ASSERT(rows.dim() == 5 && layer >= 0 && layer <= static_cast<int64_t>(layers_.size()));
  const auto index = static_cast<size_t>(layer);
  const int64_t total = length_ + rows.size(3);
  if (index == layers_.size()) layers_.push_back(rows.new_empty({2, rows.size(1), rows.size(2), 0, rows.size(4)}));
  Tensor& held = layers_[index];
  const bool fits = held.size(1) == rows.size(1) && held.size(2) == rows.size(2) && held.size(4) == rows.size(4) &&
                    held.scalar_type() == rows.scalar_type() && held.device() == rows.device();
  if (!fits) {
    throw UsageError(concat("rows ", rows.scalar_type(), " ", rows.sizes(), " for a cache of ", held.scalar_type(), " ",
                            held.sizes()),
                     "give each batch and model a cache of its own");
  }
  if (held.size(3) < total) {
    const int64_t room = std::max({total, 2 * held.size(3), kFirstRoom});
    Tensor larger = held.new_empty({2, held.size(1), held.size(2), room, held.size(4)});
    larger.narrow(3, 0, length_).copy_(held.narrow(3, 0, length_));
    held = larger;
  }
  held.narrow(3, length_, rows.size(3)).copy_(rows);
  return held.narrow(3, 0, total);
}

void KvCache::advance(int64_t tokens) { length_ += tokens; }

int64_t kv_cache_bytes(const DecoderConfig& config, int64_t batch, int64_t tokens, at::ScalarType dtype) {
  return 2 * config.num_hidden_layers * batch * config.num_key_value_heads * tokens * config.head_dim *
         static_cast<int64_t>(c10::elementSize(dtype));
}

}  // namespace kinora::models::decoder
