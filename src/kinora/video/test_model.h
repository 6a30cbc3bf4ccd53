// A tiny model folder with random weights, for tests of the pipeline.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <string>
#include <vector>

#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/base/test_folder.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/models/test_configs.h"
#include "kinora/nn/test_weights.h"
#include "kinora/tensor/convert.h"
#include "kinora/text/test_configs.h"

namespace kinora::video {

/// Words of the test's tokenizer; other words fall apart into letters.
inline std::string test_tokenizer() {
  const std::string space = "\xe2\x96\x81";
  Json vocab = Json::array();
  for (const char* special : {"<pad>", "</s>", "<unk>"}) vocab.push_back(Json::array({special, 0.0}));
  vocab.push_back(Json::array({space, -9.0}));
  for (const char* word : {"a", "red", "blue", "ball", "square", "moves", "left", "right", "fast"})
    vocab.push_back(Json::array({space + word, -5.0}));
  for (char c = 'a'; c <= 'z'; ++c) vocab.push_back(Json::array({std::string(1, c), -12.0}));
  const Json metaspace = {{"type", "Metaspace"}, {"replacement", space}, {"prepend_scheme", "always"}, {"split", true}};
  const Json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
             end = {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}};
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", Json::array()},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", metaspace},
                     {"decoder", metaspace},
                     {"post_processor",
                      {{"type", "TemplateProcessing"},
                       {"single", {sequence, end}},
                       {"pair", {sequence, end}},
                       {"special_tokens", {{"</s>", {{"id", "</s>"}, {"ids", {1}}, {"tokens", {"</s>"}}}}}}}},
                     {"model", {{"type", "Unigram"}, {"unk_id", 2}, {"vocab", vocab}, {"byte_fallback", false}}}};
  return json.dump();
}

/// Drawn weights under their names, as a file has them.
inline NamedTensors test_weights(const Params& params, uint64_t seed) {
  const std::vector<at::Tensor> values = drawn_weights(params, 1000 * seed, at::kFloat);
  NamedTensors out;
  for (const Param& p : params) {
    const at::Tensor& value = values[static_cast<size_t>(p.id)];
    out.emplace_back(p.name, p.name == "scale" ? value + 1 : value);  // a factor of all latents
  }
  return out;
}

class TestModel {
 public:
  models::STDiT3Config transformer = models::tiny_stdit3();
  models::VideoVaeConfig vae;
  text::T5Config text_encoder = text::tiny_t5();

  TestModel() {
    text_encoder.vocab_size = 40;  // what the tokenizer has, and one
    transformer.caption_channels = text_encoder.d_model;
    transformer.model_max_length = 16;
    transformer.input_sq_size = 32;
    vae.spatial.block_out_channels = {8, 16};
    vae.spatial.norm_num_groups = 4;
    vae.temporal.filters = 8;
    vae.temporal.num_res_blocks = 1;
    vae.temporal.channel_multipliers = {1, 2};
    vae.temporal.temporal_downsample = {true};
    vae.temporal.num_groups = 4;
    vae.micro_frame_size = 6;
  }

  TestModel& write() {
    for (const char* part : {"transformer", "vae", "text_encoder", "tokenizer", "scheduler"})
      std::filesystem::create_directories(folder / part);
    put("transformer/config.json", transformer.to_json());
    put("vae/config.json", vae.to_json());
    write_text_encoder();
    put("scheduler/scheduler_config.json", {{"_class_name", "RFLOW"}, {"use_timestep_transform", false}});
    put("model_index.json", {{"_class_name", "OpenSoraPipeline"},
                             {"defaults",
                              {{"height", 16},
                               {"width", 24},
                               {"num_frames", 9},
                               {"steps", 3},
                               {"guidance_scale", 4.0},
                               {"fps", 8},
                               {"prompt", "plain"}}}});
    write_file(folder / "tokenizer/tokenizer.json", test_tokenizer());
    save_tensors(transformer_file(), test_weights(models::STDiT3(transformer).params(), 1));
    save_tensors(folder / "vae/diffusion_pytorch_model.safetensors", test_weights(models::VideoVae(vae).params(), 2));
    return *this;
  }
  void write_text_encoder() const {
    put("text_encoder/config.json", {{"model_type", "t5"},
                                     {"vocab_size", text_encoder.vocab_size},
                                     {"d_model", text_encoder.d_model},
                                     {"d_kv", text_encoder.d_kv},
                                     {"d_ff", text_encoder.d_ff},
                                     {"num_layers", text_encoder.num_layers},
                                     {"num_heads", text_encoder.num_heads},
                                     {"feed_forward_proj", "gated-gelu"}});
    save_tensors(folder / "text_encoder/model.safetensors", test_weights(text::T5Encoder(text_encoder).params(), 3));
  }
  void put(const std::string& file, const Json& json) const { write_file(folder / file, json.dump(2)); }
  std::filesystem::path transformer_file() const { return folder / "transformer/diffusion_pytorch_model.safetensors"; }

  TempFolder temp;
  std::filesystem::path folder = temp.path();
};

}  // namespace kinora::video
