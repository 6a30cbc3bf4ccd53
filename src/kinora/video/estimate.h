// What a request will take, before any work.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "kinora/models/open_sora/config.h"
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/offload/quantised.h"
#include "kinora/text/t5.h"
#include "kinora/video/request.h"

namespace kinora::video {

/// Weights of which only a part stays in memory, the slots among it through which the rest passes (weight_budget.h).
struct StreamedSizes {
  uint64_t text_bytes = 0, transformer_bytes = 0;  ///< at the least
  bool is_asked = false;                           ///< this much, even where all of them would fit
};

/// What the sizes follow from.
struct ModelSizes {
  models::STDiT3Config transformer;
  models::VideoVaeConfig vae;
  text::T5Config text_encoder;
  uint64_t transformer_bytes = 0, vae_bytes = 0, text_bytes = 0;  ///< weights in the run's dtype
  uint64_t element_bytes = 4;                                     ///< of the run's dtype
  at::Device device = at::kCPU;
  std::optional<StreamedSizes> streamed = {};        ///< none: all weights stay
  std::optional<offload::ByteFormat> quantize = {};  ///< of the transformer's matrices
  /// Of the transformer's adapters, which are part of its bytes: by the name of a weight the largest rank.
  std::map<std::string, int64_t> adapter_ranks = {};

  at::ScalarType dtype() const {
    return element_bytes == 2 ? at::kBFloat16 : element_bytes == 4 ? at::kFloat : at::kDouble;
  }
};

struct LatentSize {
  int64_t frames, height, width;
  int64_t elements(int64_t channels) const { return channels * frames * height * width; }
};
/// As VideoVae::latent_size, without a model.
LatentSize latent_size(const models::VideoVaeConfig& vae, const Plan& plan);

struct MemoryEstimate {
  uint64_t text = 0, denoise = 0,
           decode = 0;  ///< activations and caches of each phase at their peak, as the ledger counts them
  uint64_t caches = 0;  ///< of denoise: what is kept between steps
  uint64_t blocks = 0;  ///< of denoise: what its blocks take, which can run in pieces; all else stands beside them
  uint64_t text_weights = 0, transformer_weights = 0, vae_weights = 0;
  uint64_t output = 0;  ///< frames of every clip that is kept, of one that is collected, or those that are written next
  bool vae_first = false;  ///< the autoencoder is loaded before the transformer: it encodes what is given

  /// A phase with its own weights alone; with what libraries take behind the ledger.
  uint64_t text_peak() const;
  uint64_t denoise_peak() const;
  uint64_t decode_peak() const;
  /// Encoding, denoising and decoding with all that is held beside them: every part that was loaded before, or each part's
  /// weights freed before the next is loaded.
  std::array<uint64_t, 3> stage_peaks(bool one_by_one) const;
  uint64_t total(bool one_by_one) const {
    const auto peaks = stage_peaks(one_by_one);
    return *std::max_element(peaks.begin(), peaks.end());
  }
  uint64_t together() const { return total(false); }
  uint64_t one_by_one() const { return total(true); }
  /// What `room` leaves for the blocks' activations: their budget in pieces.
  int64_t blocks_within(uint64_t room, bool one_by_one) const {
    return static_cast<int64_t>(room) - static_cast<int64_t>(stage_peaks(one_by_one)[1] - blocks);
  }
};

/// Of blocks that run as plan.pieces says, and weights that stay as plan.weights says.
MemoryEstimate estimate_memory(const ModelSizes& sizes, const Plan& plan);

}  // namespace kinora::video
