#include "kinora/models/decoder/folder.h"

#include "kinora/base/error.h"
#include "kinora/tensor/checkpoint.h"

namespace kinora::models::decoder {

std::vector<std::string> surplus_names(const DecoderConfig& config) {
  std::vector<std::string> names;
  if (config.tie_word_embeddings) names.push_back("lm_head.weight");
  if (config.family == Family::llama) {
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      names.push_back(concat("model.layers.", i, ".self_attn.rotary_emb.inv_freq"));
    }
  }
  return names;
}

DecoderConfig read_config(const std::filesystem::path& folder) {
  const auto file = folder / "config.json";
  if (!std::filesystem::exists(file)) {
    throw UsageError(concat("no config.json in ", folder.string()), "give a folder as transformers saves a model");
  }
  return DecoderConfig::from_json(read_json_file(file), concat("'", file.string(), "'"));
}

ResidentWeights load_decoder_weights(const Decoder& decoder, const std::filesystem::path& folder, LoadOptions options) {
  const auto surplus = surplus_names(decoder.config());
  options.surplus.insert(options.surplus.end(), surplus.begin(), surplus.end());
  return load_weights(decoder.params(), Checkpoint(folder), options);
}

}  // namespace kinora::models::decoder
