#include "kinora/video/model_folder.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/tensor/checkpoint.h"

namespace kinora::video {
namespace {

namespace fs = std::filesystem;

constexpr const char* kKnown =
    "OpenSoraPipeline (STDiT3, VideoAutoencoderPipeline, T5) is the model class that this version knows";

fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

void check_exists(const fs::path& path, const char* what) {
  std::error_code failed;
  if (!fs::exists(path, failed))
    throw UsageError(concat("the ", what, " '", path.string(), "' does not exist"), "give the folder of a model");
}

/// A part's folder; a weights file stands for the folder around it.
fs::path folder_of(const fs::path& path, const char* what) {
  check_exists(path, what);
  std::error_code failed;
  if (fs::is_directory(path, failed)) return path;
  if (path.extension() != ".safetensors") {
    if (is_pickle_name(path)) Checkpoint{path};  // throws, naming the converter
    throw UsageError(concat("the ", what, " '", path.string(), "' is no folder"),
                     "give the folder that holds config.json and .safetensors files");
  }
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

bool has_tokenizer(const fs::path& folder) {
  return fs::exists(folder / "spiece.model") || fs::exists(folder / "tokenizer.json");
}

std::string class_of(const JsonObject& config) {
  const std::string own = config.string_or("_class_name", "");
  return own.empty() ? config.string_or("model_type", "") : own;
}

void read_index(const fs::path& file, ModelFolder& found) {
  const Json json = read_json_file(file);
  const JsonObject index(json, file.string());
  const std::string name = index.string_or("_class_name", "");
  if (name != "OpenSoraPipeline")
    throw UsageError(concat(file.string(), ": the model class \"", printable(name), "\" is not known"), kKnown);
  if (const Json* defaults = index.find("defaults"))
    found.defaults = Defaults::from_json(*defaults, file.string() + ": defaults");
}

void read_scheduler(const fs::path& file, ModelFolder& found) {
  if (!fs::exists(file)) return;
  found.scheduler_config = read_json_file(file);
  found.scheduler = JsonObject(found.scheduler_config, file.string()).string_or("_class_name", found.scheduler);
}

}  // namespace

Json read_config(const fs::path& folder, const std::string& known) {
  const fs::path file = folder / "config.json";
  if (!fs::exists(file)) {
    throw UsageError(concat("'", folder.string(), "' has no config.json"),
                     concat("a folder of ", known, " holds config.json and .safetensors files"));
  }
  Json json = read_json_file(file);
  const std::string name = class_of(JsonObject(json, file.string()));
  if (name != known)
    throw UsageError(concat(file.string(), ": the model class \"", printable(name), "\" is not ", known), kKnown);
  return json;
}

ModelFolder find_model(const ModelPaths& paths) {
  ModelFolder found;
  if (!paths.model.empty()) {
    const fs::path model = folder_of(without_slash(paths.model), "model");
    std::error_code failed;
    found.name = fs::weakly_canonical(model, failed).filename().string();
    if (fs::exists(model / "model_index.json")) {
      read_index(model / "model_index.json", found);
      read_scheduler(model / "scheduler" / "scheduler_config.json", found);
      found.transformer = model / "transformer";
      found.vae = model / "vae";
      found.text_encoder = model / "text_encoder";
      if (has_tokenizer(model / "tokenizer")) found.tokenizer = model / "tokenizer";
    } else if (fs::exists(model / "config.json")) {
      read_config(model, "STDiT3");
      found.transformer = model;
    } else {
      const fs::directory_iterator files(model, failed);
      if (std::any_of(begin(files), end(files), [](const auto& file) { return is_pickle_name(file.path()); }))
        Checkpoint{model};  // throws, naming the converter, unless there are .safetensors too
      throw UsageError(concat("'", model.string(), "' has neither model_index.json nor config.json"), kKnown);
    }
  }
  const auto take = [](fs::path& part, const fs::path& given, const char* what) {
    if (!given.empty()) part = folder_of(without_slash(given), what);
  };
  take(found.transformer, paths.transformer, "transformer");
  take(found.vae, paths.vae, "autoencoder");
  take(found.text_encoder, paths.text_encoder, "text encoder");
  take(found.tokenizer, paths.tokenizer, "tokenizer");
  if (found.name.empty()) found.name = found.transformer.filename().string();

  std::string missing;
  const auto need = [&missing](const fs::path& part, const char* option) {
    if (part.empty()) missing.append(missing.empty() ? "" : " ").append(option).append(" FOLDER");
  };
  need(found.transformer, "--transformer");
  need(found.vae, "--vae");
  need(found.text_encoder, "--text-encoder");
  if (!missing.empty()) throw UsageError("not every part of the model is known", "add " + missing);
  if (found.tokenizer.empty()) found.tokenizer = found.text_encoder;
  for (const auto& [part, what] : {std::pair{&found.transformer, "transformer"},
                                   {&found.vae, "autoencoder"},
                                   {&found.text_encoder, "text encoder"}})
    check_exists(*part, what);
  return found;
}

}  // namespace kinora::video
