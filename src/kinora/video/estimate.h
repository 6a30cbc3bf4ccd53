// What a request will take, before any work: so that one that cannot fit is refused in milliseconds, with the nearest that can.
#pragma once

#include <cstdint>

#include "kinora/models/open_sora/config.h"
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/text/t5.h"
#include "kinora/video/request.h"

namespace kinora::video {

/// What the sizes follow from.
struct ModelSizes {
  models::STDiT3Config transformer;
  models::VideoVaeConfig vae;
  text::T5Config text_encoder;
  uint64_t transformer_bytes = 0, vae_bytes = 0, text_bytes = 0;  ///< weights in the run's dtype
  uint64_t element_bytes = 4;                                     ///< of the run's dtype
};

struct MemoryEstimate {
  uint64_t text = 0, denoise = 0,
           decode = 0;  ///< activations and caches of each phase at their peak, as the ledger counts them
  uint64_t caches = 0;  ///< of denoise: what is kept between steps
  uint64_t text_weights = 0, transformer_weights = 0, vae_weights = 0;
  uint64_t output = 0;  ///< frames of every clip that is kept, of one that is collected, or those that are written next
  bool vae_first = false;  ///< the autoencoder is loaded before the transformer: it encodes what is given

  /// A phase with its own weights alone; with what libraries take behind the ledger.
  uint64_t text_peak() const;
  uint64_t denoise_peak() const;
  uint64_t decode_peak() const;
  /// Every part stays once it is loaded; with what libraries take behind the ledger.
  uint64_t together() const;
  /// Each part's weights freed before the next is loaded.
  uint64_t one_by_one() const;
};

MemoryEstimate estimate_memory(const ModelSizes& sizes, const Plan& plan);

/// Bytes that the process may still take on `device`: `limit` (0: none) less what it holds there, at most nine tenths of
/// what is free.
uint64_t memory_room(uint64_t limit, at::Device device = at::kCPU);

struct Fit {
  int64_t batch = 1;
  bool one_by_one = false;  ///< free each part's weights before the next is loaded
};

/// The largest batch up to plan.batch that fits into `room`, all parts at once where possible. Throws ResourceError that names what
/// is needed, what there is and the nearest size that fits: fewer frames first, then a smaller picture.
Fit fit_into(const ModelSizes& sizes, const Plan& plan, uint64_t room);

}  // namespace kinora::video
