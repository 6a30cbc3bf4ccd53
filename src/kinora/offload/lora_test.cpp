#include "kinora/offload/lora.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/offload/quantised.h"
#include "kinora/offload/streamed.h"
#include "kinora/offload/toy_model.h"
#include "kinora/tensor/convert.h"

namespace kinora::offload {
namespace {

constexpr int64_t kRank = 3;
const char* const kModule = "blocks.1.mlp.fc1";

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

/// A model of two blocks and halves for some of its layers.
struct Adapted {
  Adapted() : model(2), values(model.values()) {
    for (const char* const module : {"blocks.0.attn.proj", kModule, "blocks.1.mlp.fc2"}) {
      const Param& p = model.params()[model.id(concat(module, ".weight"))];
      const auto seed = static_cast<uint64_t>(p.id) + 50;
      a[module] = normal({kRank, p.shape[1]}, seed, at::kFloat);
      b[module] = normal({p.shape[0], kRank}, seed + 100, at::kFloat) * 0.2;
    }
  }
  /// Under the names that a tool writes.
  std::filesystem::path save(const std::string& prefix, const std::string& first, const std::string& second,
                             NamedTensors more = {}, const Metadata& metadata = {}) const {
    for (const auto& [module, tensor] : a) more.emplace_back(prefix + module + first, tensor);
    for (const auto& [module, tensor] : b) more.emplace_back(prefix + module + second, tensor);
    save_tensors(folder / "adapter_model.safetensors", more, metadata);
    return folder / "adapter_model.safetensors";
  }
  void config(const std::string& json) const { std::ofstream(folder / "adapter_config.json") << json; }
  Lora read(const std::filesystem::path& path, double strength = 1) const {
    return read_lora(Checkpoint(path), model.params(), {.dtype = at::kDouble, .strength = strength});
  }
  /// The model with W + scale B A in place of W.
  Tensor merged(const Tensor& x, double scale) const {
    std::vector<Tensor> sums = values;
    for (const auto& [module, tensor] : a) {
      Tensor& w = sums[static_cast<size_t>(model.id(module + ".weight"))];
      w = w + scale * at::matmul(b.at(module).to(at::kDouble), tensor.to(at::kDouble));
    }
    ResidentWeights weights(sums);
    return model({.weights = &weights}, x);
  }
  Tensor adapted(WeightSource& base, const Lora& lora, const Tensor& x) const {
    LoraWeights weights(base, {lora});
    return model({.weights = &weights}, x);
  }

  test::ToyModel model;
  std::vector<Tensor> values;
  std::map<std::string, Tensor> a, b;
  TempFolder folder;
};

Tensor input() { return normal({2, 5, 24}, 9); }

TEST(Lora, EqualsMergedWeightsUnderEverybodysNames) {
  const Adapted t;
  ResidentWeights base(t.values);
  const std::tuple<const char*, const char*, const char*> names[]{
      {"base_model.model.", ".lora_A.weight", ".lora_B.weight"},
      {"base_model.model.", ".lora_A.default.weight", ".lora_B.default.weight"},
      {"transformer.", ".lora_A.weight", ".lora_B.weight"},
      {"unet.", ".lora.down.weight", ".lora.up.weight"},
      {"diffusion_model.", ".lora_down.weight", ".lora_up.weight"},
      {"", ".lora_A.weight", ".lora_B.weight"}};
  for (const auto& [prefix, first, second] : names) {
    const Lora lora = t.read(t.save(prefix, first, second));
    EXPECT_EQ(lora.size(), 3u);
    EXPECT_LT(distance(t.adapted(base, lora, input()), t.merged(input(), 1)), 1e-6) << prefix;
  }
  EXPECT_GT(distance(t.merged(input(), 1), t.merged(input(), 0)), 0.1);
}

TEST(Lora, ScaleComesFromTheTensorTheConfigOrTheMetadata) {
  const Adapted t;
  ResidentWeights base(t.values);
  const auto off = [&](const Lora& lora, double scale) {
    return distance(t.adapted(base, lora, input()), t.merged(input(), scale));
  };
  NamedTensors alphas;
  for (const auto& [module, tensor] : t.a) alphas.emplace_back("transformer." + module + ".alpha", at::full({}, 6.0F));
  EXPECT_LT(off(t.read(t.save("transformer.", ".lora_A.weight", ".lora_B.weight", alphas)), 2), 1e-6);
  const auto file = t.save("transformer.", ".lora_A.weight", ".lora_B.weight", {},
                           {{"lora_adapter_metadata", R"({"transformer.r": 3, "transformer.lora_alpha": 1.5})"}});
  EXPECT_LT(off(t.read(file), 0.5), 1e-6);
  EXPECT_LT(off(t.read(file, 3), 1.5), 1e-6);
  t.config(R"({"r": 3, "lora_alpha": 12})");
  EXPECT_LT(off(t.read(t.folder.path()), 4), 1e-6);
  t.config(R"({"r": 3, "lora_alpha": 12, "use_rslora": true})");
  EXPECT_LT(off(t.read(t.folder.path()), 12 / std::sqrt(3.0)), 1e-6);
}

TEST(Lora, AdaptersAddUpAndWeightsThatAreReadAreMerged) {
  const Adapted t;
  ResidentWeights base(t.values);
  const Lora lora = t.read(t.save("", ".lora_A.weight", ".lora_B.weight"));
  LoraWeights twice(base, {lora, lora});
  EXPECT_LT(distance(t.model({.weights = &twice}, input()), t.merged(input(), 2)), 1e-6);
  const Param& p = t.model.params()[t.model.id(concat(kModule, ".weight"))];
  EXPECT_LT(distance(twice.get(p), t.values[static_cast<size_t>(p.id)] +
                                       2 * at::matmul(t.b.at(kModule), t.a.at(kModule)).to(at::kDouble)),
            1e-6);
  twice.adapters().clear();
  EXPECT_TRUE(t.model({.weights = &twice}, input()).equal(t.model({.weights = &base}, input())));
}

TEST(Lora, OverQuantisedAndStreamedBases) {
  const Adapted t;
  const Lora lora = t.read(t.save("", ".lora_A.weight", ".lora_B.weight"));
  TensorStore values(t.values);
  const ByteParams bytes = to_byte_params(t.model.params(), values);
  QuantisedWeights quantised(bytes);
  // The same adapter over the same rounded weights, merged.
  std::vector<Tensor> rounded;
  for (const Param& p : t.model.params()) rounded.push_back(quantised.get(p));
  ResidentWeights plain(rounded);
  const Tensor want = t.adapted(plain, lora, input());
  EXPECT_LT(distance(t.adapted(quantised, lora, input()), want), 1e-12);

  QuantisedStore store(bytes);
  const StreamPlan plan = stream_with(t.model.params(), sizeof(double), 0, 2, test::kAll);
  StreamedWeights streamed(t.model.params(), plan, store);
  EXPECT_LT(distance(t.adapted(streamed, lora, input()), want), 1e-12);
  EXPECT_GT(streamed.counts().bytes, 0u);
}

TEST(Lora, AFileMayBeForTwoModels) {
  const Adapted t;
  Params other;
  Scope(other).param("layers.0.q.weight", {5, 4});
  const NamedTensors more{{"text_encoder.layers.0.q.lora_A.weight", at::ones({2, 4})},
                          {"text_encoder.layers.0.q.lora_B.weight", at::ones({5, 2})}};
  const auto read = [&](const Metadata& metadata) {
    const Checkpoint file(t.save("transformer.", ".lora_A.weight", ".lora_B.weight", more, metadata));
    return std::pair(read_lora(file, t.model.params(), {.beside = &other}),
                     read_lora(file, other, {.beside = &t.model.params()}));
  };
  const auto [own, beside] = read({});
  EXPECT_EQ(own.size(), 3u);
  EXPECT_EQ(beside.size(), 1u);
  EXPECT_EQ(num_bytes(beside), (2 * 4 + 5 * 2) * sizeof(float));
  EXPECT_NE(fingerprint(beside), fingerprint(beside, fingerprint(own)));
  EXPECT_THROW(t.read(t.folder / "adapter_model.safetensors"), DataError);  // without the other
  save_tensors(t.folder / "adapter_model.safetensors", more);
  EXPECT_TRUE(
      read_lora(Checkpoint(t.folder / "adapter_model.safetensors"), t.model.params(), {.beside = &other}).empty());
  const auto alphas = [](const char* text) -> Metadata { return {{"lora_adapter_metadata", text}}; };
  EXPECT_NO_THROW(read(alphas(R"({"transformer.lora_alpha": 2, "transformer.r": 3, "text_encoder.lora_alpha": 2})")));
  EXPECT_THROW(read(alphas(R"({"transformer.lora_alpha": 2, "text_encoder.lora_alpha": 4})")), DataError);
}

TEST(Lora, RefusesWhatTheModelHasNoPlaceFor) {
  const Adapted t;
  const auto refuses = [&](const NamedTensors& more) {
    EXPECT_THROW(t.read(t.save("", ".lora_A.weight", ".lora_B.weight", more)), DataError);
  };
  const auto ones = [](at::IntArrayRef shape) { return at::ones(shape); };
  refuses({{"blocks.7.attn.proj.lora_A.weight", ones({3, 24})}});
  refuses({{"blocks.0.mlp.fc1.lora_A.weight", ones({3, 24})}});  // no B
  refuses({{"blocks.0.attn.proj.lora_magnitude_vector", ones({24})}});
  refuses({{"blocks.0.attn.proj.lora_B.bias", ones({24})}});
  refuses({{"transformer.blocks.1.mlp.fc1.lora_A.weight", ones({3, 24})}});  // twice
  refuses({{"blocks.0.mlp.fc1.lora_A.weight", ones({3, 24})}, {"blocks.0.mlp.fc1.lora_B.weight", ones({24, 3})}});
  refuses({{"blocks.1.mlp.fc1.alpha", ones({2})}});
  save_tensors(t.folder / "adapter_model.safetensors", {});
  EXPECT_THROW(t.read(t.folder / "adapter_model.safetensors"), DataError);
  t.save("", ".lora_A.weight", ".lora_B.weight");
  for (const char* const config :
       {R"({"use_dora": true})", R"({"alpha_pattern": {"a": 1}})", R"({"rank_pattern": {"a": 1}})"}) {
    t.config(config);
    EXPECT_THROW(t.read(t.folder.path()), DataError) << config;
  }
}

}  // namespace
}  // namespace kinora::offload
