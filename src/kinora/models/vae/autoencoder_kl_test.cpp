#include "kinora/models/vae/autoencoder_kl.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "kinora/base/error.h"
#include "kinora/models/vae/tiles.h"
#include "kinora/tensor/random.h"

namespace kinora::models {
namespace {

AutoencoderKlConfig small_config() {
  AutoencoderKlConfig config;
  config.block_out_channels = {8, 8, 16};
  config.norm_num_groups = 4;
  config.sample_size = 16;
  return config;
}

struct Vae {
  explicit Vae(const AutoencoderKlConfig& config = small_config(), at::ScalarType dtype = at::kFloat)
      : model(Scope(params), config), weights(init_weights(params, 5, dtype)) {
    run.weights = &weights;
  }
  Params params;
  AutoencoderKl model;
  ResidentWeights weights;
  Run run;
};

Tensor noise(at::IntArrayRef shape, uint64_t seed = 1) {
  at::Generator generator = cpu_generator(seed);
  return randn(shape, generator);
}

TEST(Gaussian, SamplesAroundTheMean) {
  const Tensor mean = noise({2, 3, 4}), logvar = noise({2, 3, 4}, 2), draw = noise({2, 3, 4}, 3);
  const DiagonalGaussian posterior{at::cat({mean, logvar}, 1)};
  EXPECT_TRUE(at::allclose(posterior.sample(draw), mean + at::exp(0.5 * logvar) * draw));
  EXPECT_TRUE(at::equal(posterior.mode(), mean));
  EXPECT_THROW(posterior.sample(noise({2, 3, 5})), UsageError);
}

TEST(Gaussian, ClampsTheLogVariance) {
  const DiagonalGaussian posterior{at::tensor({0.0, 0.0, -100.0, 100.0}).view({1, 4, 1})};
  EXPECT_TRUE(at::equal(posterior.logvar().flatten(), at::tensor({-30.0, 20.0})));
}

TEST(Gaussian, DivergesFromTheStandardNormalByNothingButItself) {
  EXPECT_EQ((DiagonalGaussian{at::zeros({2, 6, 3})}.kl().abs().sum().item<double>()), 0.0);
  EXPECT_NEAR((DiagonalGaussian{at::cat({at::ones({1, 1, 3}), at::zeros({1, 1, 3})}, 1)}.kl().item<double>()), 1.5,
              1e-6);
}

TEST(AutoencoderKl, RoundsOddSizesDown) {
  const Vae vae;
  const Tensor latents = vae.model.encode(vae.run, noise({2, 3, 19, 14})).mode();
  EXPECT_EQ(latents.sizes(), (std::vector<int64_t>{2, 4, 4, 3}));
  EXPECT_EQ(vae.model.decode(vae.run, latents).sizes(), (std::vector<int64_t>{2, 3, 16, 12}));
}

TEST(AutoencoderKl, SlicesEqualTheWholeBitForBit) {
  const Vae vae;
  const Tensor x = noise({5, 3, 16, 24}), z = noise({5, 4, 4, 6});
  for (const int64_t micro_batch : {1, 2, 4}) {
    KlParts parts;
    parts.micro_batch = micro_batch;
    EXPECT_TRUE(at::equal(vae.model.encode(vae.run, x, parts).moments, vae.model.encode(vae.run, x).moments))
        << micro_batch;
    EXPECT_TRUE(at::equal(vae.model.decode(vae.run, z, parts), vae.model.decode(vae.run, z))) << micro_batch;
  }
}

TEST(AutoencoderKl, TilesCoverThePicture) {
  const Vae vae;
  KlParts parts;
  parts.tiling = true;
  const std::vector<std::vector<int64_t>> sizes{
      {16, 16}, {17, 40}, {26, 33}, {40, 26}};  // 26: a leftover of 2 px has no latent
  for (const auto& size : sizes) {
    const Tensor moments = vae.model.encode(vae.run, noise({1, 3, size[0], size[1]}), parts).moments;
    EXPECT_EQ(moments.sizes(), (std::vector<int64_t>{1, 8, size[0] / 4, size[1] / 4}));
    const Tensor pixels = vae.model.decode(vae.run, moments.narrow(1, 0, 4), parts);
    EXPECT_EQ(pixels.sizes(), (std::vector<int64_t>{1, 3, size[0] / 4 * 4, size[1] / 4 * 4}));
  }
  const Tensor x = noise({1, 3, 16, 16});
  EXPECT_TRUE(at::equal(vae.model.encode(vae.run, x, parts).moments, vae.model.encode(vae.run, x).moments));
}

TEST(Tiles, OfAnIdentityGiveThePictureBack) {
  const Tensor x = noise({1, 2, 23, 31});
  const Tensor y = map_tiles(x, {.size = 8, .step = 6, .blend = 2, .keep = 6}, [](const Tensor& tile) { return tile; });
  EXPECT_TRUE(at::allclose(x, y));
  EXPECT_THROW(map_tiles(x, {.size = 8, .step = 0, .blend = 2, .keep = 6}, [](const Tensor& tile) { return tile; }),
               UsageError);
}

TEST(AutoencoderKl, RefusesOtherShapes) {
  const Vae vae;
  EXPECT_THROW(vae.model.encode(vae.run, noise({1, 4, 16, 16})), UsageError);
  EXPECT_THROW(vae.model.encode(vae.run, noise({3, 16, 16})), UsageError);
  EXPECT_THROW(vae.model.encode(vae.run, noise({1, 3, 3, 16})), UsageError);
  EXPECT_THROW(vae.model.decode(vae.run, noise({1, 3, 4, 4})), UsageError);
  EXPECT_THROW(vae.model.decode(vae.run, noise({0, 4, 4, 4})), UsageError);
}

TEST(AutoencoderKl, StopsWhenCancelled) {
  Vae vae;
  std::stop_source source;
  vae.run.cancel = source.get_token();
  source.request_stop();
  EXPECT_THROW(vae.model.encode(vae.run, noise({1, 3, 16, 16})), CancelledError);
  EXPECT_THROW(vae.model.decode(vae.run, noise({1, 4, 4, 4})), CancelledError);
}

TEST(AutoencoderKl, GivesEveryParameterAFiniteGradient) {
  Vae vae;
  for (Tensor& weight : vae.weights.tensors()) weight.requires_grad_(true);
  const Tensor x = noise({2, 3, 12, 8});
  const DiagonalGaussian posterior = vae.model.encode(vae.run, x);
  const Tensor z = posterior.sample(noise(posterior.mode().sizes().vec(), 2));
  ((vae.model.decode(vae.run, z) - x).square().mean() + 1e-3 * posterior.kl().mean()).backward();
  for (const Param& param : vae.params) {
    const Tensor grad = vae.weights.get(param).grad();
    ASSERT_TRUE(grad.defined()) << param.name;
    EXPECT_TRUE(at::isfinite(grad).all().item<bool>()) << param.name;
  }
}

TEST(AutoencoderKl, InBfloat16StaysNearFloat32) {
  const Vae wide, narrow(small_config(), at::kBFloat16);
  const Tensor z = noise({1, 4, 6, 5});
  const Tensor want = wide.model.decode(wide.run, z),
               got = narrow.model.decode(narrow.run, z.to(at::kBFloat16)).to(at::kFloat);
  EXPECT_LT((got - want).norm().item<double>(), 0.05 * want.norm().item<double>());
}

TEST(AutoencoderKlConfig, OfStableDiffusionHasItsSize) {
  Params params;
  const AutoencoderKl model(Scope(params), AutoencoderKlConfig::sdxl());
  EXPECT_EQ(params.num_elements(), 83'653'863);
  EXPECT_NE(params.find("decoder.up_blocks.2.resnets.0.conv_shortcut.weight"), nullptr);
  EXPECT_EQ(AutoencoderKlConfig::sdxl().downscale(), 8);
}

TEST(AutoencoderKlConfig, SurvivesJson) {
  const AutoencoderKlConfig config = AutoencoderKlConfig::from_json(small_config().to_json(), "test");
  EXPECT_EQ(config.block_out_channels, small_config().block_out_channels);
  EXPECT_EQ(config.to_json(), small_config().to_json());
  EXPECT_EQ(AutoencoderKlConfig::from_json({{"sample_size", {64, 32}}, {"norm_num_groups", 32}}, "test").sample_size,
            64);
}

TEST(AutoencoderKlConfig, RefusesWhatIsNotBuilt) {
  const auto read = [](const char* key, const Json& value) {
    Json json = small_config().to_json();
    json[key] = value;
    return AutoencoderKlConfig::from_json(json, "test");
  };
  EXPECT_THROW(read("act_fn", "gelu"), DataError);
  EXPECT_THROW(read("norm_num_groups", 3), DataError);
  EXPECT_THROW(read("block_out_channels", Json::array()), DataError);
  EXPECT_THROW(read("sample_size", Json::array()), DataError);
  EXPECT_THROW(read("down_block_types", {"DownEncoderBlock2D"}), DataError);
  EXPECT_THROW(read("up_block_types", {"UpDecoderBlock2D", "AttnUpDecoderBlock2D", "UpDecoderBlock2D"}), DataError);
}

TEST(AutoencoderKl, KnowsTheNamesOfOlderCheckpoints) {
  Params params;
  const AutoencoderKl vae{Scope(params), small_config()};
  const auto aliases = [&](const char* name) { return params.options(params.find(name)->id).aliases; };
  using Names = std::vector<std::string>;
  EXPECT_EQ(aliases("encoder.mid_block.attentions.0.to_q.weight"),
            Names{"encoder.mid_block.attentions.0.query.weight"});
  EXPECT_EQ(aliases("decoder.mid_block.attentions.0.to_out.0.bias"),
            Names{"decoder.mid_block.attentions.0.proj_attn.bias"});
  EXPECT_EQ(aliases("decoder.conv_in.bias"), Names{});
}

/// The weights tell where they work: those of up_blocks.i on 4^i times the latents' pixels, what changes the size and
/// what follows on those of the next level.
TEST(AutoencoderKlFlops, CountEveryConvolutionOfTheDecoder) {
  const Vae vae;
  double want = 0;
  for (const Param& p : vae.params) {
    const bool decodes = p.name.starts_with("decoder.") || p.name.starts_with("post_quant_conv.");
    if (!decodes || p.shape.size() < 2) continue;
    int level = p.name.starts_with("decoder.conv_out") ? 2 : 0;
    for (int i = 0; i < 3; ++i) {
      if (p.name.starts_with(concat("decoder.up_blocks.", i, ".")))
        level = p.name.find("upsamplers") == std::string::npos ? i : i + 1;
    }
    want += 2 * static_cast<double>(c10::multiply_integers(p.shape)) * 5 * 7 * std::pow(4, level);
  }
  const double attention = 4.0 * (5 * 7) * (5 * 7) * 16;
  EXPECT_DOUBLE_EQ(decode_flops(vae.model.config(), 5, 7, 3), 3 * (want + attention));
}

}  // namespace
}  // namespace kinora::models
