#include "kinora/video/estimate.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <optional>
#include <string>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"

namespace kinora::video {
namespace {

using models::VideoVaeConfig;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Latents {
  int64_t frames, height, width;
  int64_t elements(int64_t channels) const { return channels * frames * height * width; }
};

/// As VideoVae::latent_size, without a model.
Latents latents_of(const VideoVaeConfig& vae, const Plan& plan) {
  const int64_t factor = vae.temporal.downscale();
  const int64_t chunk = vae.micro_frame_size > 0 ? vae.micro_frame_size : plan.num_frames;
  const int64_t whole = plan.num_frames / chunk, rest = plan.num_frames % chunk;
  return {whole * ceil_div(chunk, factor) + ceil_div(rest, factor), plan.height / vae.spatial.downscale(),
          plan.width / vae.spatial.downscale()};
}

/// Values alive at once around a residual block's first norm and convolution, measured with the ledger: float32, bfloat16, and one
/// picture alone in bfloat16, which another convolution takes.
double values_alive(uint64_t element_bytes, int64_t pictures) {
  if (element_bytes >= 4) return 3.5;
  return pictures == 1 ? 5.5 : 4.1;
}

/// Widths of the levels from latents to pixels: {entering, leaving}; the first block of a level still has the level below's width.
double spatial_peak(const VideoVaeConfig& vae, const Latents& z, int64_t pictures, uint64_t element_bytes) {
  const auto& channels = vae.spatial.block_out_channels;
  double most = 0;
  int64_t entering = channels.back();
  double pixels = static_cast<double>(z.height * z.width);
  for (size_t i = channels.size(); i-- > 0;) {
    most = std::max(most, static_cast<double>(std::max(entering, channels[i])) * pixels);
    entering = channels[i];
    pixels *= 4;
  }
  return most * static_cast<double>(pictures) * values_alive(element_bytes, pictures);
}

double temporal_peak(const VideoVaeConfig& vae, const Latents& z, int64_t frames, uint64_t element_bytes) {
  const auto& t = vae.temporal;
  const size_t levels = t.channel_multipliers.size();
  const double area = static_cast<double>(z.height * z.width);
  double time = static_cast<double>(ceil_div(frames, t.downscale()));
  double most = 0;
  for (size_t i = levels; i-- > 0;) {
    const int64_t entering = t.width(std::min(i + 1, levels - 1));
    // Causal convolutions work on a copy with two frames more in front.
    most = std::max(
        most, (values_alive(element_bytes, 2) * time + 2) * static_cast<double>(std::max(entering, t.width(i))) * area);
    if (i > 0 && t.temporal_downsample[i - 1]) {
      most = std::max(
          most, (5 * time + 2) * static_cast<double>(t.width(i)) * area);  // twice the channels, and once more in order
      time *= 2;
    }
  }
  return most;
}

/// Values alive for each row and channel of a block at its widest, measured with the ledger at STDiT3-XL/2's width: the
/// MLP holds its input and sum, the norm and the hidden layer before and after the activation; attention along time its
/// input and norm, queries, keys and values as the linear layer left them and once more in order, and the result.
double block_peak(const models::STDiT3Config& c) { return std::max(5.0 + 2.0 * c.mlp_ratio, 9.0); }

uint64_t bytes_of(double elements, uint64_t element_bytes) {
  return static_cast<uint64_t>(elements * static_cast<double>(element_bytes));
}

std::string size_text(const Plan& plan) {
  return concat(plan.num_frames, plan.num_frames == 1 ? " frame of " : " frames of ", plan.height, "x", plan.width);
}

bool fits(const ModelSizes& sizes, Plan plan, uint64_t room) {
  plan.batch = 1;
  return estimate_memory(sizes, plan).one_by_one() <= room;
}

/// The largest value below `high` (in steps) for which `good` holds.
template <typename Good>
std::optional<int64_t> largest(int64_t low, int64_t high, Good good) {
  if (high < low || !good(low)) return std::nullopt;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (good(middle))
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

std::optional<Plan> nearest_fit(const ModelSizes& sizes, const Plan& plan, uint64_t room) {
  Plan smaller = plan;
  const auto with_frames = [&](int64_t frames) {
    smaller.num_frames = frames;
    return fits(sizes, smaller, room);
  };
  if (const auto frames = largest(1, plan.num_frames - 1, with_frames)) {
    smaller.num_frames = *frames;
    return smaller;
  }
  smaller.num_frames = std::min<int64_t>(plan.num_frames, 17);
  const int64_t block = sizes.vae.spatial.downscale() * sizes.transformer.patch_size[1];
  const double ratio = static_cast<double>(plan.width) / static_cast<double>(plan.height);
  const auto with_rows = [&](int64_t rows) {
    smaller.height = rows * block;
    smaller.width = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(rows) * ratio + 0.5)) * block;
    return fits(sizes, smaller, room);
  };
  const auto rows = largest(1, plan.height / block, with_rows);
  if (!rows) return std::nullopt;
  with_rows(*rows);
  return smaller;
}

constexpr uint64_t kRuntimeScratch = uint64_t{64} << 20;  // thread pools, packed weights of one layer

/// With what operators allocate where no ledger sees it: convolutions reorder their input and output, products pack little.
uint64_t with_scratch_denoise(uint64_t bytes) { return bytes + bytes / 6 + kRuntimeScratch; }
uint64_t with_scratch_decode(uint64_t bytes) { return 2 * bytes + kRuntimeScratch; }

}  // namespace

uint64_t MemoryEstimate::together() const {
  return text_weights + transformer_weights + vae_weights + output +
         std::max({text, with_scratch_denoise(denoise), with_scratch_decode(decode)});
}

uint64_t MemoryEstimate::denoise_peak() const { return transformer_weights + with_scratch_denoise(denoise); }
uint64_t MemoryEstimate::decode_peak() const { return vae_weights + with_scratch_decode(decode); }

uint64_t MemoryEstimate::one_by_one() const { return output + std::max({text_peak(), denoise_peak(), decode_peak()}); }

MemoryEstimate estimate_memory(const ModelSizes& sizes, const Plan& plan) {
  const Latents z = latents_of(sizes.vae, plan);
  const auto& model = sizes.transformer;
  const auto batch = static_cast<double>(plan.batch), branches = plan.is_guided() ? 2.0 : 1.0;
  const auto width = static_cast<double>(model.hidden_size);
  const double patches =
      static_cast<double>(ceil_div(z.height, model.patch_size[1]) * ceil_div(z.width, model.patch_size[2]));
  const int64_t frames = ceil_div(z.frames, model.patch_size[0]);
  const double rows = batch * branches * static_cast<double>(frames) * patches;
  const auto tokens = static_cast<double>(model.model_max_length);
  // Current latents, and those of every branch in float32 and in the model's dtype.
  const double latents = 4.0 * (1.0 + 2.0 * branches) * batch * static_cast<double>(z.elements(model.in_channels));

  MemoryEstimate e;
  const double captions = batch * branches * tokens * width * (1.0 + 4.0 * static_cast<double>(model.depth));
  const double alive = block_peak(model);
  e.denoise = bytes_of(rows * width * alive + captions, sizes.element_bytes) + static_cast<uint64_t>(latents);

  const int64_t chunk =
      sizes.vae.micro_frame_size > 0 ? std::min(sizes.vae.micro_frame_size, plan.num_frames) : plan.num_frames;
  const int64_t at_once = std::min(sizes.vae.micro_batch_size, chunk);
  const double between =
      2.0 * static_cast<double>(sizes.vae.temporal.in_out_channels * (chunk + 4) * z.height * z.width);
  const double peak = std::max(temporal_peak(sizes.vae, z, chunk, sizes.element_bytes),
                               spatial_peak(sizes.vae, z, at_once, sizes.element_bytes));
  e.decode = bytes_of(peak + between, sizes.element_bytes) +
             static_cast<uint64_t>(4.0 * batch * static_cast<double>(z.elements(model.in_channels)));

  const auto& t5 = sizes.text_encoder;
  const double inner = static_cast<double>(t5.num_heads * t5.d_kv);
  e.text = bytes_of(tokens * (4.0 * static_cast<double>(t5.d_model) + 3.0 * static_cast<double>(t5.d_ff) + 4.0 * inner),
                    sizes.element_bytes) +
           static_cast<uint64_t>(3.0 * 4.0 * tokens * tokens * static_cast<double>(t5.num_heads));

  e.text_weights = sizes.text_bytes, e.transformer_weights = sizes.transformer_bytes, e.vae_weights = sizes.vae_bytes;
  const uint64_t clips = plan.keeps_clips ? std::max<uint64_t>(1, plan.prompts.size()) : 1;
  e.output = clips * 3 * static_cast<uint64_t>(plan.total_frames() * plan.height) * static_cast<uint64_t>(plan.width);
  return e;
}

uint64_t memory_room(uint64_t limit, at::Device device) {
  uint64_t available, held;
  if (device.is_cpu()) {
    available = available_memory_bytes(), held = resident_bytes();
  } else {
    at::globalContext().lazyInitDevice(device.type());
    c10::DeviceAllocator& allocator = *c10::getDeviceAllocator(device.type());
    available = allocator.getMemoryInfo(device.index()).first;
    held = static_cast<uint64_t>(allocator.getDeviceStats(device.index()).reserved_bytes[0].current);
  }
  const uint64_t room = available - available / 10;
  return limit > 0 ? std::min(room, limit > held ? limit - held : 0) : room;
}

Fit fit_into(const ModelSizes& sizes, const Plan& plan, uint64_t room) {
  Plan tried = plan;
  tried.batch = std::min<int64_t>(plan.batch, static_cast<int64_t>(std::max<size_t>(1, plan.prompts.size())));
  for (const bool one_by_one : {false, true}) {
    for (tried.batch = std::max<int64_t>(1, tried.batch);; tried.batch /= 2) {
      const MemoryEstimate e = estimate_memory(sizes, tried);
      if ((one_by_one ? e.one_by_one() : e.together()) <= room) return {tried.batch, one_by_one};
      if (tried.batch == 1) break;
    }
    tried.batch = std::min<int64_t>(plan.batch, static_cast<int64_t>(std::max<size_t>(1, plan.prompts.size())));
  }
  Plan one = plan;
  one.batch = 1;
  const uint64_t needed = estimate_memory(sizes, one).one_by_one();
  const auto nearest = nearest_fit(sizes, plan, room);
  std::string hint = "no size of this model fits: free memory, or give --memory more";
  if (nearest) {
    Plan fit = *nearest;
    fit.batch = 1;
    hint = concat(size_text(fit), " would fit (", human_bytes(estimate_memory(sizes, fit).one_by_one()), ")");
  }
  throw ResourceError(
      concat(size_text(plan), " need ", human_bytes(needed), " of memory more, ", human_bytes(room), " are free"),
      hint);
}

}  // namespace kinora::video
