// Weights that do not fit: how much of the text encoder's and the transformer's stays in memory at the least while the
// rest is streamed from the model's files, block by block. The autoencoder stays whole: its convolutions are small.
#pragma once

#include <optional>
#include <string>

#include "kinora/nn/module.h"
#include "kinora/offload/quantised.h"
#include "kinora/video/estimate.h"

namespace kinora::video {

/// --offload: "auto", streamed where the weights do not fit in the memory that there is; "none"; "stream:N", always, with
/// N blocks of each part in memory.
struct Offload {
  bool streams = true;
  std::optional<int> resident_blocks;
};
/// Throws UsageError for another text.
Offload parse_offload(const std::string& text);

/// --quantize: "int8" or "fp8", matrices of the text encoder and the transformer as bytes (offload/quantised.h); "none".
/// Throws UsageError for another text.
std::optional<offload::ByteFormat> parse_quantize(const std::string& text);

/// What stays of both parts, whose elements take `element_bytes`; nothing where `offload` is none. Throws UsageError for
/// more blocks than the transformer has.
std::optional<StreamedSizes> streamed_sizes(const Offload& offload, const Params& text_encoder,
                                            const Params& transformer, size_t element_bytes);

/// "weights streamed from their files: 0.9 GB of 2.2 GB of the transformer stay in memory, ..."
std::string text_of(const WeightBudgets& weights, const ModelSizes& sizes);

}  // namespace kinora::video
