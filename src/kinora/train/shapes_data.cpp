#include "kinora/train/shapes_data.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

#include "kinora/base/error.h"
#include "kinora/base/json.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/tensor/random.h"
#include "kinora/train/summed.h"
#include "kinora/world/paint.h"
#include "kinora/world/tables.h"

namespace kinora::train {
namespace {

constexpr std::chrono::minutes kSaveEvery{5};  // of latents that are being encoded
constexpr double kSeen = 24.0 / 127.5;         // a difference from the background that counts as object

Tensor background_of(const world::WorldConfig& config, const world::Scene& scene) {
  media::Frames still = media::make_frames(1, config.height, config.width, config.fps);
  still.rgb = world::paint_background(world::background_row(scene.background), config.height, config.width);
  return media::to_tensor(still);  // [3, 1, H, W]
}

/// First and last index of the set entries along one dim, or the middle where there is none.
std::pair<int64_t, int64_t> extent(const Tensor& any) {
  const Tensor where = at::nonzero(any).flatten();
  if (where.numel() == 0) return {any.size(0) / 2, any.size(0) / 2};
  return {where[0].item<int64_t>(), where[-1].item<int64_t>()};
}

int64_t draw(at::Generator& generator, int64_t low, int64_t high) {  // inclusive
  return high <= low ? low : at::randint(low, high + 1, {1}, generator).item<int64_t>();
}

}  // namespace

Tensor clip_batch(const world::WorldConfig& config, uint64_t seed, std::span<const int64_t> indices) {
  std::vector<Tensor> clips;
  for (const int64_t index : indices) {
    clips.push_back(
        media::to_tensor(world::sample(config, seed, static_cast<uint64_t>(index), world::Split::train).clip));
  }
  return at::stack(clips);
}

Crops crop_batch(const world::WorldConfig& config, uint64_t seed, int64_t first_index, int64_t count, int64_t per_clip,
                 int64_t side) {
  at::Generator generator = cpu_generator(seed ^ static_cast<uint64_t>(first_index) * 0x9E3779B97F4A7C15ull);
  std::vector<Tensor> pixels, foreground;
  for (int64_t i = 0; i < count; ++i) {
    const auto sample =
        world::sample(config, seed, static_cast<uint64_t>(first_index + i / per_clip), world::Split::train);
    const Tensor clip = media::to_tensor(sample.clip), background = background_of(config, sample.scene);
    for (int64_t end = std::min(count, (i / per_clip + 1) * per_clip); i < end; ++i) {
      const Tensor frame = clip.select(1, draw(generator, 0, config.frames - 1));
      const Tensor seen = (frame - background.select(1, 0)).abs().amax(0).gt(kSeen);  // [H, W]
      int64_t top = draw(generator, 0, config.height - side), left = draw(generator, 0, config.width - side);
      if (draw(generator, 0, 3) > 0) {  // a window whose middle lies in the object's box
        const auto [y0, y1] = extent(seen.any(1));
        const auto [x0, x1] = extent(seen.any(0));
        top = std::clamp(draw(generator, y0, y1) - side / 2, int64_t{0}, config.height - side);
        left = std::clamp(draw(generator, x0, x1) - side / 2, int64_t{0}, config.width - side);
      }
      const auto cut = [&](const Tensor& t) { return t.narrow(-2, top, side).narrow(-1, left, side); };
      pixels.push_back(cut(frame));
      foreground.push_back(cut(seen).unsqueeze(0).to(at::kFloat));
    }
    --i;
  }
  return {at::stack(pixels), at::stack(foreground)};
}

Tokens tokenize(const text::Tokenizer& tokenizer, const std::vector<std::string>& captions, int64_t max_length) {
  Tensor ids = at::empty({static_cast<int64_t>(captions.size()), max_length}, at::kLong), mask = at::empty_like(ids);
  for (size_t b = 0; b < captions.size(); ++b) {
    const auto encoded = tokenizer.encode(captions[b], {.max_length = max_length, .pad_to = max_length});
    ids[static_cast<int64_t>(b)].copy_(at::tensor(encoded.ids, at::kLong));
    mask[static_cast<int64_t>(b)].copy_(at::tensor(encoded.attention_mask, at::kLong));
  }
  return {ids, mask};
}

Tensor cached_latents(const std::filesystem::path& file, const std::string& key, const world::WorldConfig& config,
                      uint64_t seed, int64_t count, int64_t batch,
                      const std::function<Tensor(const Tensor& clips)>& encode,
                      const std::function<void(int64_t done)>& progress) {
  const std::string whole_key = Json{{"world", world::to_json(config)}, {"seed", seed}, {"encoder", key}}.dump();
  at::NoGradGuard no_grad;
  Tensor latents;
  int64_t done = 0;
  if (const auto cache = read_summed(file)) {
    const auto found = cache->notes.find("key");
    if (found != cache->notes.end() && found->second == whole_key && cache->tensors.size() == 1) {
      const Tensor& known = cache->tensors.front().second;
      if (known.size(0) >= count) return known.narrow(0, 0, count);
      done = known.size(0) / batch * batch;  // the batches stay those of a run that nobody ended
      auto shape = known.sizes().vec();
      shape[0] = count;
      latents = at::empty(shape, known.options());
      latents.narrow(0, 0, done).copy_(known.narrow(0, 0, done));
    }
  }
  const auto save = [&] {
    if (done > 0) save_summed(file, {{"latents", latents.narrow(0, 0, done)}}, {{"key", whole_key}});
  };
  auto saved_at = std::chrono::steady_clock::now();
  while (done < count) {
    if (std::chrono::steady_clock::now() - saved_at > kSaveEvery) {
      save();
      saved_at = std::chrono::steady_clock::now();
    }
    std::vector<int64_t> indices;
    for (int64_t i = done; i < std::min(done + batch, count); ++i) indices.push_back(i);
    Tensor part;
    try {
      part = encode(clip_batch(config, seed, indices)).to(at::kCPU, at::kBFloat16);
    } catch (const CancelledError&) {
      save();
      throw;
    }
    if (!latents.defined()) {
      auto shape = part.sizes().vec();
      shape[0] = count;
      latents = at::empty(shape, part.options());
    }
    latents.narrow(0, done, part.size(0)).copy_(part);
    done += part.size(0);
    progress(done);
  }
  save();
  return latents;
}

}  // namespace kinora::train
