// Where the parts of a model lie: a diffusers folder with a model_index.json, or separate folders as people have them
// (hpcai-tech/OpenSora-STDiT-v3, OpenSora-VAE-v1.2, T5 v1.1 XXL).
#pragma once

#include <filesystem>
#include <string>

#include "kinora/video/request.h"

namespace kinora::video {

/// What the user names; empty paths are looked for in `model`.
struct ModelPaths {
  std::filesystem::path model;  ///< a folder with model_index.json, or the transformer's own folder
  std::filesystem::path transformer, vae, text_encoder, tokenizer;
};

struct ModelFolder {
  std::string name;  ///< of the folder, for metadata
  std::filesystem::path transformer, vae, text_encoder, tokenizer;
  Defaults defaults;
  std::string scheduler = "RFLOW";  ///< class and settings of scheduler_config.json
  Json scheduler_config = Json::object();
};

/// Finds the parts. Throws UsageError for a path that does not exist, a pickle (naming the converter), a model class that is not
/// known (listing the known ones) and parts that are nowhere; DataError for damaged JSON.
ModelFolder find_model(const ModelPaths& paths);

/// config.json of a part, after its class (model_type or _class_name) was found to be `known`. Throws as find_model.
Json read_config(const std::filesystem::path& folder, const std::string& known);

}  // namespace kinora::video
