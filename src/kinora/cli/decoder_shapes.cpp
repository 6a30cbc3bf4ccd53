#include "kinora/cli/decoder_shapes.h"

#include "kinora/base/error.h"

namespace kinora::cli {
namespace {

using models::decoder::DecoderConfig;
using models::decoder::Family;

struct Shape {
  const char* name;
  Family family;
  int64_t vocab, width, hidden, layers, heads, key_heads;
};

// Zhang et al. 2022, table 1; Touvron et al. 2023, table 2; the config.json of Llama 3.
constexpr Shape kShapes[] = {{"opt-125m-shape", Family::opt, 50272, 768, 3072, 12, 12, 12},
                             {"opt-1.3b-shape", Family::opt, 50272, 2048, 8192, 24, 32, 32},
                             {"opt-6.7b-shape", Family::opt, 50272, 4096, 16384, 32, 32, 32},
                             {"opt-13b-shape", Family::opt, 50272, 5120, 20480, 40, 40, 40},
                             {"opt-30b-shape", Family::opt, 50272, 7168, 28672, 48, 56, 56},
                             {"llama-7b-shape", Family::llama, 32000, 4096, 11008, 32, 32, 32},
                             {"llama-13b-shape", Family::llama, 32000, 5120, 13824, 40, 40, 40},
                             {"llama-3-8b-shape", Family::llama, 128256, 4096, 14336, 32, 32, 8},
                             {"llama-3-70b-shape", Family::llama, 128256, 8192, 28672, 80, 64, 8}};

}  // namespace

std::vector<std::string> decoder_shape_names() {
  std::vector<std::string> names;
  for (const Shape& s : kShapes) names.emplace_back(s.name);
  return names;
}

DecoderConfig decoder_shape(const std::string& name) {
  std::string names;
  for (const Shape& s : kShapes) {
    names += (names.empty() ? "" : ", ") + std::string(s.name);
    if (name != s.name) continue;
    DecoderConfig c;
    c.family = s.family;
    c.vocab_size = s.vocab;
    c.hidden_size = s.width;
    c.intermediate_size = s.hidden;
    c.num_hidden_layers = s.layers;
    c.num_attention_heads = s.heads;
    c.num_key_value_heads = s.key_heads;
    c.head_dim = s.width / s.heads;
    if (s.family == Family::opt) {
      c.norm_eps = 1e-5;
      c.activation = ops::Activation::relu;
      c.attention_bias = c.mlp_bias = c.tie_word_embeddings = true;
    }
    return c;
  }
  throw UsageError(concat("there is no shape \"", name, "\""), concat(names, " are known"));
}

}  // namespace kinora::cli
