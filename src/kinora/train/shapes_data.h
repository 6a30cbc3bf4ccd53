// The procedural world as training batches: clips as tensors, captions as token ids, and a cache of encoded latents.
// A sample is (seed, index): the same everywhere, so nothing but latents is stored.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kinora/text/tokenizer.h"
#include "kinora/world/world.h"

namespace kinora::train {

using at::Tensor;

/// Clips of the training split, held-out combinations excluded: [B, 3, F, H, W] float32 in -1 .. 1.
Tensor clip_batch(const world::WorldConfig& config, uint64_t seed, std::span<const int64_t> indices);

/// Square crops for a picture autoencoder, around the object in three of four cases.
struct Crops {
  Tensor pixels;      ///< [B, 3, side, side]
  Tensor foreground;  ///< [B, 1, side, side] float: 1 where the clip differs from its background
};
/// `count` crops, `per_clip` from frames of one clip; side as large as the frame gives whole frames.
Crops crop_batch(const world::WorldConfig& config, uint64_t seed, int64_t first_index, int64_t count, int64_t per_clip,
                 int64_t side);

struct Tokens {
  Tensor ids;   ///< [B, max_length] int64
  Tensor mask;  ///< [B, max_length] int64
};
Tokens tokenize(const text::Tokenizer& tokenizer, const std::vector<std::string>& captions, int64_t max_length);

/// Encoded clips 0 .. count-1 of `seed`, [count, C, T, H, W] in bfloat16: read from `file` when it was made for the same
/// world, seed and `key` (what encoded them), and encoded in batches and written as far as it has fewer. A CancelledError
/// of `encode` leaves what was encoded in the file, and so does a kill but for the last minutes. progress(done) as clips
/// are done.
Tensor cached_latents(const std::filesystem::path& file, const std::string& key, const world::WorldConfig& config,
                      uint64_t seed, int64_t count, int64_t batch,
                      const std::function<Tensor(const Tensor& clips)>& encode,
                      const std::function<void(int64_t done)>& progress);

}  // namespace kinora::train
