#include "kinora/models/decoder/config.h"

#include <string>

#include "kinora/base/error.h"

namespace kinora::models::decoder {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 17;
constexpr int64_t kMaxVocabulary = int64_t{1} << 22;
constexpr int64_t kMaxPositions = int64_t{1} << 24;

ops::Activation activation_of(const std::string& name, std::string_view what, std::string_view key) {
  if (name == "silu") return ops::Activation::silu;
  if (name == "relu") return ops::Activation::relu;
  if (name == "gelu") return ops::Activation::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return ops::Activation::gelu_tanh;
  throw DataError(concat(what, ": ", key, " is \"", name, "\""),
                  "silu, relu, gelu, gelu_new and gelu_pytorch_tanh are known");
}

/// An id, a list of ids, or nothing.
std::vector<int64_t> eos_of(const JsonObject& o, int64_t vocab_size) {
  const Json* eos = o.find("eos_token_id");
  if (!eos) return {};
  if (eos->is_array()) return o.require_ints("eos_token_id", 0, vocab_size - 1);
  return {o.require_int("eos_token_id", 0, vocab_size - 1)};
}

double positive(const JsonObject& o, std::string_view key, double value) {
  if (value > 0) return value;
  throw DataError(concat(o.what(), ": ", key, " is ", value), "it is above zero");
}

/// "rope_parameters" of newer files; "rope_scaling" beside "rope_theta" of older ones, with "type" before "rope_type".
void read_rope(const JsonObject& o, DecoderConfig& c) {
  c.rope_theta = positive(o, "rope_theta", o.number_or("rope_theta", c.rope_theta));
  const char* const key = o.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!o.has(key)) return;
  const JsonObject rope = o.require_object(key);
  c.rope_theta = positive(rope, "rope_theta", rope.number_or("rope_theta", c.rope_theta));
  const std::string type = rope.string_or("rope_type", rope.string_or("type", "default"));
  if (type == "llama3") {
    Llama3Scaling s;
    s.factor = positive(rope, "factor", rope.require_number("factor"));
    s.low_freq_factor = positive(rope, "low_freq_factor", rope.require_number("low_freq_factor"));
    s.high_freq_factor = rope.require_number("high_freq_factor");
    if (s.high_freq_factor <= s.low_freq_factor) {
      throw DataError(concat(rope.what(), ": high_freq_factor is ", s.high_freq_factor),
                      concat("it is above low_freq_factor, ", s.low_freq_factor));
    }
    s.original_max_position_embeddings = rope.require_int("original_max_position_embeddings", 1, kMaxPositions);
    c.rope_scaling = s;
  } else if (type != "default") {
    throw DataError(concat(rope.what(), ": rotary positions of type \"", type, "\" are not built"),
                    "default and llama3 are");
  }
  const double share = rope.number_or("partial_rotary_factor", o.number_or("partial_rotary_factor", 1));
  if (share != 1) {
    throw DataError(concat(rope.what(), ": partial_rotary_factor is ", share), "whole heads turn, which is 1");
  }
}

void read_llama(const JsonObject& o, DecoderConfig& c) {
  c.intermediate_size = o.int_or("intermediate_size", c.intermediate_size, 1, kMaxWidth);
  c.num_key_value_heads = o.int_or("num_key_value_heads", c.num_attention_heads, 1, 1024);
  c.head_dim = o.int_or("head_dim", std::max<int64_t>(1, c.hidden_size / c.num_attention_heads), 1, 1024);
  c.norm_eps = positive(o, "rms_norm_eps", o.number_or("rms_norm_eps", c.norm_eps));
  c.activation = activation_of(o.string_or("hidden_act", "silu"), o.what(), "hidden_act");
  c.attention_bias = o.bool_or("attention_bias", false);
  c.mlp_bias = o.bool_or("mlp_bias", false);
  c.tie_word_embeddings = o.bool_or("tie_word_embeddings", false);
  read_rope(o, c);
  if (c.head_dim % 2 != 0) {
    throw DataError(concat(o.what(), ": head_dim is ", c.head_dim), "rotary positions turn pairs: it is even");
  }
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    throw DataError(concat(o.what(), ": ", c.num_attention_heads, " heads over ", c.num_key_value_heads,
                           " heads of keys and values"),
                    "the first is a multiple of the second");
  }
}

void read_opt(const JsonObject& o, DecoderConfig& c) {
  c.intermediate_size = o.int_or("ffn_dim", 3072, 1, kMaxWidth);
  c.num_key_value_heads = c.num_attention_heads;
  if (c.hidden_size % c.num_attention_heads != 0) {
    throw DataError(concat(o.what(), ": hidden_size ", c.hidden_size, " over ", c.num_attention_heads, " heads"),
                    "the first is a multiple of the second");
  }
  c.head_dim = c.hidden_size / c.num_attention_heads;
  c.norm_eps = 1e-5;  // torch.nn.LayerNorm's; OPT has no key for it
  c.activation = activation_of(o.string_or("activation_function", "relu"), o.what(), "activation_function");
  c.attention_bias = c.mlp_bias = o.bool_or("enable_bias", true);
  c.tie_word_embeddings = o.bool_or("tie_word_embeddings", true);
  c.do_layer_norm_before = o.bool_or("do_layer_norm_before", true);
  c.norm_affine = o.bool_or("layer_norm_elementwise_affine", true);
  c.final_norm = c.do_layer_norm_before && !o.bool_or("_remove_final_layer_norm", false);
  const int64_t projected = o.int_or("word_embed_proj_dim", c.hidden_size, 1, kMaxWidth);
  if (projected != c.hidden_size) {
    throw DataError(concat(o.what(), ": word_embed_proj_dim is ", projected, " and hidden_size ", c.hidden_size),
                    "embeddings of another width than the layers (OPT 350M) are not built");
  }
}

}  // namespace

DecoderConfig DecoderConfig::from_json(const Json& json, std::string_view what) {
  const JsonObject o(json, std::string(what));
  const std::string type = o.require_string("model_type");
  if (type != "llama" && type != "opt") {
    throw DataError(concat(what, ": model_type is \"", type, "\""), "llama and opt are decoders of this kind");
  }
  if (o.has("quantization_config")) {
    throw DataError(concat(what, ": the weights are quantised (quantization_config)"),
                    "fetch the model in float32, bfloat16 or float16; Kinora quantises by itself");
  }
  DecoderConfig c;
  const bool is_opt = type == "opt";
  c.family = is_opt ? Family::opt : Family::llama;
  c.vocab_size = o.int_or("vocab_size", is_opt ? 50272 : 32000, 1, kMaxVocabulary);
  c.hidden_size = o.int_or("hidden_size", is_opt ? 768 : 4096, 1, kMaxWidth);
  c.num_hidden_layers = o.int_or("num_hidden_layers", is_opt ? 12 : 32, 1, 1024);
  c.num_attention_heads = o.int_or("num_attention_heads", is_opt ? 12 : 32, 1, 1024);
  c.max_position_embeddings = o.int_or("max_position_embeddings", 2048, 1, kMaxPositions);
  c.eos_token_ids = eos_of(o, c.vocab_size);
  is_opt ? read_opt(o, c) : read_llama(o, c);
  // Training, tokens that the caller's tokenizer knows, and what transformers notes for itself.
  o.ignore({"architectures", "attention_dropout", "dropout", "activation_dropout", "layerdrop", "init_std",
            "initializer_range", "bos_token_id", "pad_token_id", "prefix", "pretraining_tp", "use_cache", "torch_dtype",
            "dtype", "transformers_version"});
  o.warn_unknown();
  return c;
}

}  // namespace kinora::models::decoder
