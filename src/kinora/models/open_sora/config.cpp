#include "kinora/models/open_sora/config.h"

#include <algorithm>
#include <vector>

#include "kinora/base/error.h"

namespace kinora::models {
namespace {

constexpr int64_t kMaxSize = 1 << 20;  // far above any model; products of two sizes stay inside int64

}  // namespace

STDiT3Config STDiT3Config::from_json(const Json& json, std::string what) {
  const JsonObject object(json, what);
  STDiT3Config c;
  c.in_channels = object.int_or("in_channels", c.in_channels, 1, kMaxSize);
  const std::vector<int64_t> patch = object.ints_or("patch_size", {1, 2, 2}, 1, 1 << 10);
  if (patch.size() != 3) {
    throw DataError(concat(what, ": patch_size has ", patch.size(), " numbers"),
                    "it takes three: frames, height, width");
  }
  std::copy(patch.begin(), patch.end(), c.patch_size.begin());
  c.input_sq_size = object.number_or("input_sq_size", c.input_sq_size);
  c.hidden_size = object.int_or("hidden_size", c.hidden_size, 1, kMaxSize);
  c.depth = object.int_or("depth", c.depth, 1, 1 << 12);
  c.num_heads = object.int_or("num_heads", c.num_heads, 1, 1 << 12);
  c.mlp_ratio = object.number_or("mlp_ratio", c.mlp_ratio);
  c.class_dropout_prob = object.number_or("class_dropout_prob", c.class_dropout_prob);
  c.pred_sigma = object.bool_or("pred_sigma", c.pred_sigma);
  c.caption_channels = object.int_or("caption_channels", c.caption_channels, 1, kMaxSize);
  c.model_max_length = object.int_or("model_max_length", c.model_max_length, 1, kMaxSize);
  c.qk_norm = object.bool_or("qk_norm", c.qk_norm);
  c.qk_norm_legacy = object.bool_or("qk_norm_legacy", c.qk_norm_legacy);
  c.skip_y_embedder = object.bool_or("skip_y_embedder", c.skip_y_embedder);
  c.freeze_y_embedder = object.bool_or("freeze_y_embedder", c.freeze_y_embedder);
  c.only_train_temporal = object.bool_or("only_train_temporal", c.only_train_temporal);
  // Choices of the reference's kernels and of its training; no result depends on them here.
  object.ignore({"model_type", "architectures", "torch_dtype", "transformers_version", "input_size", "drop_path",
                 "enable_flash_attn", "enable_layernorm_kernel", "enable_sequence_parallelism"});
  object.warn_unknown();

  if (c.hidden_size % c.num_heads != 0 || c.hidden_size % 4 != 0 || c.head_dim() % 2 != 0) {
    throw DataError(concat(what, ": hidden_size ", c.hidden_size, " with ", c.num_heads, " heads"),
                    "hidden_size must be a multiple of 4 and give every head the same even width");
  }
  if (!(c.input_sq_size > 0) || !(c.mlp_ratio > 0) || c.mlp_ratio > 1024 || c.mlp_size() < 1) {
    throw DataError(concat(what, ": input_sq_size ", c.input_sq_size, ", mlp_ratio ", c.mlp_ratio),
                    "both must be above zero");
  }
  return c;
}

Json STDiT3Config::to_json() const {
  return {{"model_type", "STDiT3"},
          {"in_channels", in_channels},
          {"patch_size", patch_size},
          {"input_sq_size", input_sq_size},
          {"hidden_size", hidden_size},
          {"depth", depth},
          {"num_heads", num_heads},
          {"mlp_ratio", mlp_ratio},
          {"class_dropout_prob", class_dropout_prob},
          {"pred_sigma", pred_sigma},
          {"caption_channels", caption_channels},
          {"model_max_length", model_max_length},
          {"qk_norm", qk_norm},
          {"qk_norm_legacy", qk_norm_legacy},
          {"skip_y_embedder", skip_y_embedder},
          {"freeze_y_embedder", freeze_y_embedder},
          {"only_train_temporal", only_train_temporal}};
}

double stdit3_flops(const STDiT3Config& config, int64_t frames, int64_t height, int64_t width, int64_t text_tokens,
                    int64_t batch) {
  const auto patches = [](int64_t size, int64_t patch) { return static_cast<double>((size + patch - 1) / patch); };
  const double t = patches(frames, config.patch_size[0]);
  const double s = patches(height, config.patch_size[1]) * patches(width, config.patch_size[2]);
  const double n = t * s, l = static_cast<double>(text_tokens), d = static_cast<double>(config.hidden_size);
  const double depth = static_cast<double>(config.depth), hidden = static_cast<double>(config.mlp_size());
  const double blocks =
      2 * depth * (n * (12 * d * d + 4 * d * hidden + 4 * l * d) + 4 * l * d * d) + depth * n * 4 * (s + t) * d;
  const double channels = static_cast<double>(config.in_channels + config.out_channels());
  const double caption = config.skip_y_embedder ? 0 : 2 * l * (static_cast<double>(config.caption_channels) + d) * d;
  const double ends = 2 * n * d * static_cast<double>(config.patch_volume()) * channels + caption;
  const double time = 4 * (256 + d) * d + 12 * d * d;
  return static_cast<double>(batch) * (blocks + ends + time);
}

}  // namespace kinora::models
