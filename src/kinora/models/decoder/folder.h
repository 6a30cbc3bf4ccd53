// A decoder from a folder as transformers saves it: config.json, weights in one safetensors file or in shards with an
// index, tokenizer.json.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "kinora/models/decoder/decoder.h"
#include "kinora/nn/load.h"

namespace kinora::models::decoder {

/// Names that published checkpoints hold beyond the model's parameters: the last product's weight where it is tied to the
/// embeddings, and rotary frequencies, which are computed here.
std::vector<std::string> surplus_names(const DecoderConfig& config);

/// Throws what DecoderConfig::from_json throws, and UsageError where there is no config.json.
DecoderConfig read_config(const std::filesystem::path& folder);

/// The weights of a model that was made from this folder's config, as load_weights (nn/load.h) does; options.surplus is
/// added to.
ResidentWeights load_decoder_weights(const Decoder& decoder, const std::filesystem::path& folder,
                                     LoadOptions options = {});

}  // namespace kinora::models::decoder
