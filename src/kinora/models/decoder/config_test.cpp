#include "kinora/models/decoder/config.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"

namespace kinora::models::decoder {
namespace {

Json llama() {
  return {{"model_type", "llama"},    {"hidden_size", 64},        {"intermediate_size", 96},
          {"num_attention_heads", 8}, {"num_key_value_heads", 2}, {"num_hidden_layers", 3},
          {"vocab_size", 100},        {"rms_norm_eps", 1e-5},     {"max_position_embeddings", 32},
          {"rope_theta", 500000.0},   {"eos_token_id", {2, 5}}};
}
Json opt() {
  return {{"model_type", "opt"}, {"hidden_size", 64}, {"ffn_dim", 96}, {"num_attention_heads", 8}, {"eos_token_id", 2}};
}
Json with(Json json, const std::string& key, const Json& value) {
  json[key] = value;
  return json;
}
Json with_rope(const Json& rope) { return with(llama(), "rope_scaling", rope); }
void expect_refused(const Json& json) { EXPECT_THROW(DecoderConfig::from_json(json), DataError) << json; }

TEST(DecoderConfig, ReadsLlama) {
  const DecoderConfig c = DecoderConfig::from_json(llama());
  EXPECT_EQ(c.family, Family::llama);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.group(), 4);
  EXPECT_EQ(c.key_width(), 16);
  EXPECT_EQ(c.rope_theta, 500000.0);
  EXPECT_EQ(c.activation, ops::Activation::silu);
  EXPECT_FALSE(c.rope_scaling || c.tie_word_embeddings || c.attention_bias || c.mlp_bias);
  EXPECT_EQ(c.eos_token_ids, (std::vector<int64_t>{2, 5}));
  EXPECT_EQ(DecoderConfig::from_json(with(llama(), "num_key_value_heads", nullptr)).group(), 1);
  EXPECT_EQ(DecoderConfig::from_json(with(llama(), "head_dim", 16)).head_dim, 16);
}

TEST(DecoderConfig, ReadsOpt) {
  const DecoderConfig c = DecoderConfig::from_json(opt());
  EXPECT_EQ(c.family, Family::opt);
  EXPECT_EQ(c.intermediate_size, 96);
  EXPECT_TRUE(c.attention_bias && c.mlp_bias && c.tie_word_embeddings && c.do_layer_norm_before && c.final_norm);
  EXPECT_EQ(c.eos_token_ids, std::vector<int64_t>{2});
  EXPECT_FALSE(DecoderConfig::from_json(with(opt(), "do_layer_norm_before", false)).final_norm);
  EXPECT_FALSE(DecoderConfig::from_json(with(opt(), "_remove_final_layer_norm", true)).final_norm);
  EXPECT_FALSE(DecoderConfig::from_json(with(opt(), "enable_bias", false)).mlp_bias);
}

TEST(DecoderConfig, ReadsRotaryPositionsInBothSpellings) {
  const Json llama3{
      {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 16}};
  const Json older = with(llama3, "type", "llama3");
  const Json newer = with(with(llama3, "rope_type", "llama3"), "rope_theta", 1000.0);
  EXPECT_EQ(DecoderConfig::from_json(with_rope(older)).rope_scaling->factor, 8);
  const DecoderConfig c = DecoderConfig::from_json(with(llama(), "rope_parameters", newer));
  EXPECT_EQ(c.rope_theta, 1000);
  EXPECT_EQ(c.rope_scaling->original_max_position_embeddings, 16);
  EXPECT_FALSE(DecoderConfig::from_json(with_rope({{"rope_type", "default"}})).rope_scaling);
  expect_refused(with_rope({{"rope_type", "yarn"}, {"factor", 2.0}}));
  expect_refused(with_rope({{"type", "linear"}, {"factor", 2.0}}));
  expect_refused(with_rope({{"type", "llama3"}}));
  expect_refused(with_rope(with(older, "high_freq_factor", 0.5)));
  expect_refused(with_rope(with(older, "factor", 0)));
  expect_refused(with_rope({{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}));
}

TEST(DecoderConfig, RefusesWhatIsNotBuilt) {
  expect_refused(with(opt(), "word_embed_proj_dim", 32));
  EXPECT_NO_THROW(DecoderConfig::from_json(with(opt(), "word_embed_proj_dim", 64)));
  expect_refused(with(llama(), "quantization_config", {{"bits", 4}}));
  expect_refused(with(llama(), "model_type", "mamba"));
  expect_refused(with(llama(), "model_type", nullptr));
  expect_refused(with(llama(), "hidden_act", "swish9"));
  expect_refused(with(opt(), "activation_function", "swish9"));
}

TEST(DecoderConfig, RefusesWhatNoDecoderCanBe) {
  expect_refused(with(llama(), "num_key_value_heads", 3));
  expect_refused(with(llama(), "head_dim", 7));
  expect_refused(with(llama(), "rms_norm_eps", 0));
  expect_refused(with(llama(), "rope_theta", -1));
  expect_refused(with(llama(), "eos_token_id", 100));
  expect_refused(with(opt(), "num_attention_heads", 7));
  expect_refused(with(opt(), "vocab_size", 0));
}

}  // namespace
}  // namespace kinora::models::decoder
