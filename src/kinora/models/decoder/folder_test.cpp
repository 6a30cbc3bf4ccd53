#include "kinora/models/decoder/folder.h"

#include <gtest/gtest.h>

#include <fstream>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/models/decoder/test_decoder.h"
#include "kinora/tensor/convert.h"

namespace kinora::models::decoder {
namespace {

const char* const kConfig = R"({"model_type": "llama", "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40,
  "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
  "max_position_embeddings": 96, "tie_word_embeddings": true})";

void write(const std::filesystem::path& file, const std::string& text) { std::ofstream(file) << text; }

struct Saved {
  Saved() : d(tied(), at::kFloat) {
    write(folder / "config.json", kConfig);
    for (const Param& p : d.model.params()) tensors.emplace_back(p.name, d.weights.get(p));
    tensors.emplace_back("lm_head.weight", d.weights.get(*d.model.params().find("model.embed_tokens.weight")));
    tensors.emplace_back("model.layers.1.self_attn.rotary_emb.inv_freq", at::ones({3}));
  }
  static DecoderConfig tied() {
    DecoderConfig c = tiny_llama();
    c.tie_word_embeddings = true;
    return c;
  }
  void expect_same() {
    const Decoder model(read_config(folder.path()));
    ResidentWeights weights = load_decoder_weights(model, folder.path());
    KvCache cache;
    const Tensor ids = tokens(1, 9);
    const kinora::Run run{.weights = &weights};
    EXPECT_TRUE(model.logits(run, model.hidden_states(run, ids, cache)).equal(d.logits(ids)));
  }

  TestDecoder d;
  TempFolder folder;
  NamedTensors tensors;
};

TEST(DecoderFolder, OneFileWithTheNamesThatOldFilesAdd) {
  Saved saved;
  save_tensors(saved.folder / "model.safetensors", saved.tensors);
  saved.expect_same();
}

TEST(DecoderFolder, ShardsWithAnIndex) {
  Saved saved;
  const char* const names[]{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
  NamedTensors parts[2];
  Json map = Json::object();
  for (size_t i = 0; i < saved.tensors.size(); ++i) {
    parts[i % 2].push_back(saved.tensors[i]);
    map[saved.tensors[i].first] = names[i % 2];
  }
  for (int i = 0; i < 2; ++i) save_tensors(saved.folder / names[i], parts[i]);
  write(saved.folder / "model.safetensors.index.json", Json{{"weight_map", map}}.dump());
  saved.expect_same();
}

TEST(DecoderFolder, RefusesAnotherModelsWeightsAndAFolderWithout) {
  Saved saved;
  saved.tensors.emplace_back("model.layers.0.self_attn.q_norm.weight", at::ones({6}));
  save_tensors(saved.folder / "model.safetensors", saved.tensors);
  const Decoder model(read_config(saved.folder.path()));
  EXPECT_THROW(load_decoder_weights(model, saved.folder.path()), DataError);
  const TempFolder empty;
  EXPECT_THROW(read_config(empty.path()), UsageError);
}

}  // namespace
}  // namespace kinora::models::decoder
