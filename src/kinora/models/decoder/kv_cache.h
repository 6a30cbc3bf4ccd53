// Keys and values of the tokens so far, as a value that the caller passes to every call of a decoder. B samples, K heads
// of keys and values, M tokens so far, N new ones, D width of a head.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "kinora/models/decoder/config.h"

namespace kinora::models::decoder {

using at::Tensor;

/// Empty: grows as rows come, by doubling. A copy shares its rows with the original: of two that go on from the same
/// length only one may be used.
class KvCache {
 public:
  KvCache() = default;
  /// Room for `tokens`, all of it allocated now; still grows beyond.
  KvCache(const DecoderConfig& config, int64_t batch, int64_t tokens, at::ScalarType dtype,
          at::Device device = at::kCPU);

  /// Tokens whose keys and values are there, of all layers.
  int64_t length() const { return length_; }
  int64_t capacity() const { return layers_.empty() ? 0 : layers_[0].size(3); }
  /// Forgets all but the first tokens, 0 <= length <= length().
  void cut(int64_t length);

  /// Puts rows [2, B, K, N, D] (keys, values) of a layer behind the first length() -> rows of all tokens
  /// [2, B, K, M + N, D], a view. They count once `advance` says so, so that a call that ends early leaves the cache as
  /// it was. Throws UsageError where the rows are not of this cache's shape or dtype.
  Tensor append(int64_t layer, const Tensor& rows);
  void advance(int64_t tokens);

 private:
  std::vector<Tensor> layers_;  ///< [2, B, K, capacity, D] each
  int64_t length_ = 0;
};

/// What a cache takes: 2 (keys, values) * layers * batch * K * tokens * D elements.
int64_t kv_cache_bytes(const DecoderConfig& config, int64_t batch, int64_t tokens, at::ScalarType dtype);

}  // namespace kinora::models::decoder
