#include "kinora/models/open_sora/video_vae.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/tensor/random.h"

namespace kinora::models {
namespace {

using Shape = std::vector<int64_t>;

VideoVaeConfig small_config() {
  VideoVaeConfig config;
  config.spatial = AutoencoderKlConfig();
  config.spatial.block_out_channels = {8, 8, 16};
  config.spatial.norm_num_groups = 4;
  config.temporal.filters = 8;
  config.temporal.num_res_blocks = 1;
  config.temporal.num_groups = 4;
  return config;
}

struct Vae {
  explicit Vae(const VideoVaeConfig& config = small_config(), at::ScalarType dtype = at::kFloat)
      : model(config), weights(init_weights(model.params(), 7, dtype)) {
    run.weights = &weights;
  }
  VideoVae model;
  ResidentWeights weights;
  kinora::Run run;
};

Tensor noise(at::IntArrayRef shape, uint64_t seed = 1) {
  at::Generator generator = cpu_generator(seed);
  return randn(shape, generator);
}

TEST(CausalConv3d, SeesNoLaterFrame) {
  Params params;
  const open_sora::CausalConv3d conv(Scope(params), 2, 3, {3, 3, 3});
  ResidentWeights weights = init_weights(params, 3);
  kinora::Run run;
  run.weights = &weights;
  const Tensor x = noise({1, 2, 6, 5, 4}), y = conv(run, x);
  Tensor changed = x.clone();
  changed.narrow(2, 4, 2).fill_(9);
  EXPECT_TRUE(at::equal(conv(run, changed).narrow(2, 0, 4), y.narrow(2, 0, 4)));
  EXPECT_FALSE(at::equal(conv(run, changed), y));
}

TEST(CausalConv3d, WithStrideEqualsZerosInFront) {
  Params params;
  const open_sora::CausalConv3d conv(Scope(params), 2, 3, {3, 3, 3}, true, {2, 1, 1});
  ResidentWeights weights = init_weights(params, 3);
  kinora::Run run;
  run.weights = &weights;
  for (const int64_t frames : {1, 2, 5, 8}) {
    const Tensor x = noise({2, 2, frames, 3, 4});
    const Tensor padded = at::constant_pad_nd(x, {0, 0, 0, 0, 1, 0});
    if (padded.size(2) < 3) continue;
    const Tensor want =
        at::conv3d(padded, weights.tensors()[0], weights.tensors()[1], {2, 1, 1}, at::IntArrayRef{0, 1, 1});
    EXPECT_TRUE(at::allclose(conv(run, x), want, 1e-5, 1e-6)) << frames;
  }
}

TEST(TemporalVae, FillsUpFramesInFront) {
  const Vae vae;
  const TemporalVae& temporal = vae.model.temporal();
  for (const int64_t frames : {1, 3, 4, 5, 9}) {
    const Tensor x = noise({2, 4, frames, 3, 5});
    const Tensor z = temporal.encode(vae.run, x).mode();
    EXPECT_EQ(z.sizes(), (Shape{2, 4, (frames + 3) / 4, 3, 5}));
    const int64_t missing = (4 - frames % 4) % 4;
    EXPECT_TRUE(at::equal(temporal.encode(vae.run, at::constant_pad_nd(x, {0, 0, 0, 0, missing, 0})).mode(), z));
    EXPECT_EQ(temporal.decode(vae.run, z, frames).sizes(), x.sizes());
  }
}

TEST(TemporalVae, RefusesOtherShapes) {
  const Vae vae;
  EXPECT_THROW(vae.model.temporal().encode(vae.run, noise({1, 3, 4, 2, 2})), UsageError);
  EXPECT_THROW(vae.model.temporal().encode(vae.run, noise({4, 4, 2, 2})), UsageError);
  EXPECT_THROW(vae.model.temporal().decode(vae.run, noise({1, 4, 2, 2, 2}), 9), UsageError);
  EXPECT_THROW(vae.model.temporal().decode(vae.run, noise({1, 4, 2, 2, 2}), 0), UsageError);
}

TEST(TemporalVaeConfig, RefusesWhatDoesNotFit) {
  const auto read = [](const char* key, const Json& value) {
    Json json = small_config().temporal.to_json();
    json[key] = value;
    return TemporalVaeConfig::from_json(json, "test");
  };
  EXPECT_EQ(read("filters", 16).to_json().at("filters"), 16);
  EXPECT_THROW(read("num_groups", 3), DataError);
  EXPECT_THROW(read("temporal_downsample", {true, false}), DataError);
  EXPECT_THROW(read("temporal_downsample", {1, 0, 1}), DataError);
  EXPECT_THROW(read("temporal_downsample", "all"), DataError);
}

TEST(VideoVae, KeepsShapesThroughARoundTrip) {
  const Vae vae;
  const std::map<int64_t, int64_t> latent_frames{{1, 1}, {16, 4}, {17, 5}, {18, 6}, {33, 9}};
  for (const auto& [frames, latents] : latent_frames) {
    const Tensor z = vae.model.encode(vae.run, noise({1, 3, frames, 9, 12}));
    EXPECT_EQ(z.sizes(), (Shape{1, 4, latents, 2, 3})) << frames;
    EXPECT_EQ(vae.model.latent_size({frames, 9, 12}), (std::array<int64_t, 3>{latents, 2, 3}));
    EXPECT_EQ(vae.model.decode(vae.run, z, frames).sizes(), (Shape{1, 3, frames, 8, 12})) << frames;
  }
}

TEST(VideoVae, ChangesNoBitWithTheMicroBatch) {
  VideoVaeConfig config = small_config();
  const Vae four(config);
  config.micro_batch_size = 1;
  const Vae one(config);
  const Tensor x = noise({2, 3, 18, 16, 8}), z = noise({2, 4, 6, 4, 2}, 2);
  EXPECT_TRUE(at::equal(one.model.encode(one.run, x), four.model.encode(four.run, x)));
  EXPECT_TRUE(at::equal(one.model.decode(one.run, z, 18), four.model.decode(four.run, z, 18)));
}

TEST(VideoVae, GivesTheSameFramesInChunks) {
  const Vae vae;
  const Tensor z = noise({1, 4, 6, 2, 3});
  const Tensor whole = vae.model.decode(vae.run, z, 19);
  int64_t next = 0;
  vae.model.decode_chunks(vae.run, z, 19, [&](const Tensor& frames, int64_t first) {
    EXPECT_EQ(first, next);
    EXPECT_LE(frames.size(2), 4);
    EXPECT_TRUE(at::equal(frames, whole.narrow(2, first, frames.size(2))));
    next = first + frames.size(2);
  });
  EXPECT_EQ(next, 19);
}

TEST(VideoVae, TreatsEachChunkAlone) {
  const Vae vae;
  const Tensor x = noise({1, 3, 20, 8, 8}), z = vae.model.encode(vae.run, x);
  EXPECT_TRUE(at::allclose(vae.model.encode(vae.run, x.narrow(2, 17, 3)), z.narrow(2, 5, 1), 1e-4, 1e-5));
  VideoVaeConfig config = small_config();
  config.micro_frame_size = 0;
  const Vae unchunked(config);
  EXPECT_EQ(unchunked.model.encode(unchunked.run, x).sizes(), (Shape{1, 4, 5, 2, 2}));
}

TEST(VideoVae, SamplesWithNoise) {
  const Vae vae;
  const Tensor x = noise({2, 3, 18, 8, 12});
  at::Generator generator = cpu_generator(4);
  VideoNoise draws = vae.model.draw_noise(2, {18, 8, 12}, generator);
  EXPECT_EQ(draws.spatial.sizes(), (Shape{36, 4, 2, 3}));
  EXPECT_EQ(draws.temporal.sizes(), (Shape{2, 4, 6, 2, 3}));
  EXPECT_FALSE(at::allclose(vae.model.encode(vae.run, x, &draws), vae.model.encode(vae.run, x)));
  draws.spatial.zero_();
  draws.temporal.zero_();
  EXPECT_TRUE(at::equal(vae.model.encode(vae.run, x, &draws), vae.model.encode(vae.run, x)));
  draws.temporal = draws.temporal.narrow(2, 0, 5);
  EXPECT_THROW(vae.model.encode(vae.run, x, &draws), UsageError);
}

TEST(VideoVae, NormalisesLatentsByTheBuffers) {
  Vae vae;
  const Tensor x = noise({1, 3, 5, 8, 8}), z = vae.model.encode(vae.run, x);
  const Tensor pixels = vae.model.decode(vae.run, z, 5);
  const auto of = [&](const char* name) { return vae.weights.get(*vae.model.params().find(name)); };
  const Tensor raw = z * of("scale") + of("shift");
  vae.weights.tensors()[vae.model.params().find("scale")->id] = at::full({1, 4, 1, 1, 1}, 2.0);
  vae.weights.tensors()[vae.model.params().find("shift")->id] = at::full({1, 4, 1, 1, 1}, 0.5);
  EXPECT_TRUE(at::allclose(vae.model.encode(vae.run, x), (raw - 0.5) / 2.0, 1e-4, 1e-5));
  EXPECT_TRUE(at::allclose(vae.model.decode(vae.run, (raw - 0.5) / 2.0, 5), pixels, 1e-3, 1e-4));
}

TEST(VideoVae, RefusesOtherShapes) {
  const Vae vae;
  EXPECT_THROW(vae.model.encode(vae.run, noise({1, 4, 5, 8, 8})), UsageError);
  EXPECT_THROW(vae.model.encode(vae.run, noise({3, 5, 8, 8})), UsageError);
  EXPECT_THROW(vae.model.encode(vae.run, noise({1, 3, 5, 3, 8})), UsageError);
  EXPECT_THROW(vae.model.encode(vae.run, noise({1, 3, 0, 8, 8})), UsageError);
  EXPECT_THROW(vae.model.decode(vae.run, noise({1, 4, 5, 2, 2}), 18), UsageError);
  EXPECT_THROW(vae.model.decode(vae.run, noise({1, 3, 5, 2, 2}), 17), UsageError);
  EXPECT_THROW(vae.model.decode(vae.run, noise({1, 4, 5, 2, 2}), 0), UsageError);
  EXPECT_THROW(vae.model.latent_size({1, 3, 8}), UsageError);
}

TEST(VideoVae, StopsBetweenParts) {
  Vae vae;
  std::stop_source source;
  vae.run.cancel = source.get_token();
  int calls = 0;
  const auto stop = [&](const Tensor&, int64_t) {
    ++calls;
    source.request_stop();
  };
  EXPECT_THROW(vae.model.decode_chunks(vae.run, noise({1, 4, 5, 2, 2}), 17, stop), CancelledError);
  EXPECT_EQ(calls, 1);
  EXPECT_THROW(vae.model.encode(vae.run, noise({1, 3, 5, 8, 8})), CancelledError);
}

TEST(VideoVae, GivesEveryParameterAFiniteGradient) {
  Vae vae;
  for (const Param& param : vae.model.params()) {
    if (vae.model.params().options(param.id).trainable) vae.weights.tensors()[param.id].requires_grad_(true);
  }
  const Tensor x = noise({2, 3, 5, 8, 8});
  at::Generator generator = cpu_generator(4);
  const VideoNoise draws = vae.model.draw_noise(2, {5, 8, 8}, generator);
  (vae.model.decode(vae.run, vae.model.encode(vae.run, x, &draws), 5) - x).square().mean().backward();
  for (const Param& param : vae.model.params()) {
    if (!vae.model.params().options(param.id).trainable) continue;
    const Tensor grad = vae.weights.get(param).grad();
    ASSERT_TRUE(grad.defined()) << param.name;
    EXPECT_TRUE(at::isfinite(grad).all().item<bool>()) << param.name;
  }
}

TEST(VideoVae, RunsInBfloat16) {
  const Vae wide, narrow(small_config(), at::kBFloat16);
  const Tensor z = noise({1, 4, 2, 3, 3});
  const Tensor want = wide.model.decode(wide.run, z, 7), got = narrow.model.decode(narrow.run, z.to(at::kBFloat16), 7);
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  EXPECT_LT((got.to(at::kFloat) - want).norm().item<double>(), 0.1 * want.norm().item<double>());
}

TEST(VideoVaeConfig, OfThePublishedModel) {
  const VideoVae vae(VideoVaeConfig::from_json(
      Json::parse(R"({"model_type":"VideoAutoencoderPipeline","micro_frame_size":17,"scale":[3.85,2.32,2.33,3.06],
                      "shift":[-0.10,0.34,0.27,0.98],"vae_2d":{"type":"VideoAutoencoderKL","micro_batch_size":4,"subfolder":"vae"},
                      "vae_temporal":{"type":"VAE_Temporal_SD","from_pretrained":null}})"),
      "test"));
  EXPECT_EQ(vae.downscale(), 8);
  EXPECT_EQ(vae.temporal_downscale(), 4);
  EXPECT_NEAR(static_cast<double>(vae.params().num_elements()), 384e6, 1.5e7);
  EXPECT_EQ(vae.params().find("temporal_vae.decoder.conv_blocks.2.conv.weight")->shape, (Shape{1024, 512, 3, 3, 3}));
  EXPECT_EQ(vae.latent_size({51, 480, 854}), (std::array<int64_t, 3>{15, 60, 106}));
}

TEST(VideoVaeConfig, SurvivesJson) {
  VideoVaeConfig config = small_config();
  config.micro_frame_size = 0;
  config.micro_batch_size = 7;
  config.parts.tiling = true;
  const VideoVaeConfig read = VideoVaeConfig::from_json(config.to_json(), "test");
  EXPECT_EQ(read.to_json(), config.to_json());
  EXPECT_EQ(read.micro_frame_size, 0);
  EXPECT_EQ(read.micro_batch_size, 7);
  EXPECT_TRUE(read.parts.tiling);
}

TEST(VideoVaeConfig, RefusesWhatDoesNotFit) {
  const auto read = [](const char* key, const Json& value) {
    Json json = small_config().to_json();
    json[key] = value;
    return VideoVaeConfig::from_json(json, "test");
  };
  EXPECT_EQ(read("scale", {2.0}).scale, (std::vector<double>{2, 2, 2, 2}));
  EXPECT_THROW(read("scale", {1.0, 2.0}), DataError);
  EXPECT_THROW(read("scale", {1.0, 2.0, 0.0, 1.0}), DataError);
  EXPECT_THROW(read("shift", Json::array()), DataError);
  EXPECT_THROW(read("spatial_scaling_factor", 0), DataError);
  EXPECT_THROW(read("vae_temporal", {{"in_out_channels", 8}, {"filters", 8}, {"num_groups", 4}}), DataError);
}

}  // namespace
}  // namespace kinora::models
