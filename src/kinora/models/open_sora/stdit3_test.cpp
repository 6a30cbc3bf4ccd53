#include "kinora/models/open_sora/stdit3.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/models/open_sora/test_stdit3.h"

namespace kinora::models {
namespace {

STDiT3Inputs sample_of(const STDiT3Inputs& in, int64_t b) {
  STDiT3Inputs one = in;
  one.latents = in.latents.narrow(0, b, 1);
  one.timestep = in.timestep.narrow(0, b, 1);
  one.caption = in.caption.narrow(0, b, 1);
  if (in.caption_mask.defined()) one.caption_mask = in.caption_mask.narrow(0, b, 1);
  if (in.frame_mask.defined()) one.frame_mask = in.frame_mask.narrow(0, b, 1);
  return one;
}

double relative(const Tensor& got, const Tensor& want) {
  return (got.to(at::kDouble) - want.to(at::kDouble)).norm().item<double>() /
         want.to(at::kDouble).norm().item<double>();
}

TEST(STDiT3Params, CarryThePublishedNamesAndShapes) {
  STDiT3Config published;
  published.freeze_y_embedder = true;
  const STDiT3 model(published);
  const auto shape = [&](const std::string& name) {
    const Param* p = model.params().find(name);
    return p ? p->shape : std::vector<int64_t>{-1};
  };
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shape("rope.freqs"), Shape({36}));
  EXPECT_EQ(shape("x_embedder.proj.weight"), Shape({1152, 4, 1, 2, 2}));
  EXPECT_EQ(shape("x_embedder.proj.bias"), Shape({1152}));
  EXPECT_EQ(shape("t_embedder.mlp.0.weight"), Shape({1152, 256}));
  EXPECT_EQ(shape("fps_embedder.mlp.2.weight"), Shape({1152, 1152}));
  EXPECT_EQ(shape("t_block.1.weight"), Shape({6912, 1152}));
  EXPECT_EQ(shape("y_embedder.y_embedding"), Shape({300, 4096}));
  EXPECT_EQ(shape("y_embedder.y_proj.fc1.weight"), Shape({1152, 4096}));
  EXPECT_EQ(shape("spatial_blocks.27.attn.qkv.weight"), Shape({3456, 1152}));
  EXPECT_EQ(shape("temporal_blocks.0.attn.k_norm.weight"), Shape({72}));
  EXPECT_EQ(shape("temporal_blocks.3.cross_attn.kv_linear.bias"), Shape({2304}));
  EXPECT_EQ(shape("temporal_blocks.3.mlp.fc2.weight"), Shape({1152, 4608}));
  EXPECT_EQ(shape("final_layer.scale_shift_table"), Shape({2, 1152}));
  EXPECT_EQ(shape("final_layer.linear.weight"), Shape({32, 1152}));
  int64_t block = 0;
  for (const Param& p : model.params()) {
    if (p.name.starts_with("temporal_blocks.5.")) block += c10::multiply_integers(p.shape);
    const bool text = p.name.starts_with("y_embedder.");
    EXPECT_EQ(model.params().options(p.id).trainable, !text && p.name != "rope.freqs") << p.name;
  }
  EXPECT_EQ(block, 21'255'696);
}

TEST(STDiT3Params, StartWithAnIdentityInTimeAndNoFrameRate) {
  const STDiT3 model(tiny_stdit3());
  ResidentWeights weights = init_weights(model.params(), 3);
  for (const Param& p : model.params()) {
    const bool temporal = p.name.starts_with("temporal_blocks.");
    const bool zero = (temporal && (p.name.ends_with(".proj.weight") || p.name.ends_with("fc2.weight"))) ||
                      p.name == "fps_embedder.mlp.2.weight";
    if (!p.name.ends_with("weight")) continue;
    EXPECT_EQ(weights.get(p).abs().max().item<double>() == 0, zero) << p.name;
  }
  EXPECT_NEAR(weights.get(*model.params().find("rope.freqs"))[1].item<double>(), std::pow(10000, -2.0 / 8), 1e-7);
}

TEST(STDiT3Params, OnlyTheTemporalBlocksAreTrainedWhereThatIsAsked) {
  STDiT3Config config = tiny_stdit3();
  config.only_train_temporal = true;
  const STDiT3 model(config);
  for (const Param& p : model.params()) {
    EXPECT_EQ(model.params().options(p.id).trainable, p.name.starts_with("temporal_blocks.")) << p.name;
  }
}

TEST(STDiT3Forward, GivesTheLatentsShapeForOddSizesInEveryDtype) {
  const TestSTDiT3 exact;
  for (const auto& size : std::vector<std::vector<int64_t>>{{1, 2, 2}, {1, 5, 3}, {3, 1, 1}, {17, 3, 5}, {2, 7, 13}}) {
    const STDiT3Inputs in = stdit3_inputs(3, size);
    const Tensor want = exact(in);
    EXPECT_EQ(want.sizes(), at::IntArrayRef({3, 8, size[0], size[1], size[2]}));
    EXPECT_EQ(want.scalar_type(), at::kDouble);
    for (const auto& [dtype, tolerance] : {std::pair(at::kFloat, 1e-4), std::pair(at::kBFloat16, 4e-2)}) {
      const Tensor got = TestSTDiT3(tiny_stdit3(), dtype)(in);
      EXPECT_EQ(got.scalar_type(), at::kFloat);
      EXPECT_LT(relative(got, want), tolerance) << dtype << " " << at::IntArrayRef(size);
    }
  }
}

TEST(STDiT3Forward, ServesPromptsOfDifferentLengthsTogetherAsAlone) {
  const TestSTDiT3 model;
  STDiT3Inputs in = stdit3_inputs(3);
  in.caption_mask = stdit3_mask({2, 6, 3});
  const Tensor together = model(in);
  for (int64_t b = 0; b < 3; ++b) EXPECT_LT(relative(together.narrow(0, b, 1), model(sample_of(in, b))), 1e-12);
}

TEST(STDiT3Forward, NeverLooksAtMaskedTokens) {
  const TestSTDiT3 model;
  STDiT3Inputs in = stdit3_inputs(2);
  in.caption_mask = stdit3_mask({2, 4});
  STDiT3Inputs other = in;
  other.caption = in.caption.clone();
  other.caption.narrow(2, 4, 2).fill_(std::nan(""));
  EXPECT_TRUE(at::equal(model(in), model(other)));
}

TEST(STDiT3Forward, RepeatsAShorterMaskForTheOtherHalf) {
  const TestSTDiT3 model;
  STDiT3Inputs in = stdit3_inputs(4), whole = in;
  in.caption_mask = stdit3_mask({2, 5});
  whole.caption_mask = stdit3_mask({2, 5, 2, 5});
  EXPECT_TRUE(at::equal(model(in), model(whole)));
}

TEST(STDiT3Forward, TakesAFrameMaskOfOnesAsNone) {
  const TestSTDiT3 model;
  STDiT3Inputs in = stdit3_inputs();
  const Tensor want = model(in);
  in.frame_mask = at::ones({2, 3}, at::kBool);
  EXPECT_TRUE(at::equal(model(in), want));
  in.frame_mask[1][2] = false;
  const Tensor masked = model(in);
  EXPECT_LT(relative(masked[0], want[0]), 1e-12) << "a sample without given frames changed";
  EXPECT_GT(relative(masked[1], want[1]), 1e-3);
}

TEST(STDiT3Forward, TakesCaptionsEmbeddedOnce) {
  const TestSTDiT3 model;
  STDiT3Inputs in = stdit3_inputs();
  in.caption_mask = stdit3_mask({1, 5});
  const Tensor want = model(in);
  const open_sora::Caption caption = model.model.embed_caption(model.run, in.caption, in.caption_mask);
  EXPECT_EQ(caption.lengths, std::vector<int64_t>({1, 5}));
  STDiT3Inputs embedded = in;
  embedded.caption = Tensor();
  embedded.caption_mask = Tensor();
  embedded.embedded_caption = caption;
  EXPECT_TRUE(at::equal(model(embedded), want));
  embedded.embedded_caption = model.model.with_keys_values(model.run, caption);
  EXPECT_EQ(embedded.embedded_caption->keys_values.size(), 4U);
  EXPECT_TRUE(at::equal(model(embedded), want));

  STDiT3Config skips = tiny_stdit3();
  skips.skip_y_embedder = true;
  const TestSTDiT3 packed(skips);
  in.caption = caption.tokens;
  in.caption_mask = at::tensor({1, 5}, at::kLong);
  EXPECT_TRUE(at::equal(packed(in), want));
}

TEST(STDiT3Forward, StopsAfterTheWantedDepth) {
  STDiT3Config shallow = tiny_stdit3();
  shallow.depth = 1;
  const TestSTDiT3 deep, reference(shallow);
  for (const Param& p : reference.model.params()) {
    reference.run.weights->get(p).copy_(deep.run.weights->get(*deep.model.params().find(p.name)));
  }
  STDiT3Inputs in = stdit3_inputs();
  const Tensor want = reference(in);
  in.valid_depth = 1;
  EXPECT_TRUE(at::equal(deep(in), want));
}

TEST(STDiT3Forward, StopsWhenCancelled) {
  TestSTDiT3 model;
  std::stop_source source;
  source.request_stop();
  model.run.cancel = source.get_token();
  EXPECT_THROW(model(stdit3_inputs()), CancelledError);
}

TEST(STDiT3Errors, NameWhatDoesNotFit) {
  const TestSTDiT3 model;
  const auto refuses = [&](auto change) {
    STDiT3Inputs in = stdit3_inputs();
    change(in);
    EXPECT_THROW(model(in), UsageError);
  };
  refuses([](STDiT3Inputs& in) { in.latents = Tensor(); });
  refuses([](STDiT3Inputs& in) { in.latents = normal({2, 3, 3, 4, 4}, 1); });
  refuses([](STDiT3Inputs& in) { in.latents = normal({2, 4, 0, 4, 4}, 1); });
  refuses([](STDiT3Inputs& in) { in.timestep = normal({3}, 1); });
  refuses([](STDiT3Inputs& in) { in.fps = normal({3}, 1); });
  refuses([](STDiT3Inputs& in) { in.frame_mask = at::ones({2, 4}, at::kBool); });
  refuses([](STDiT3Inputs& in) { in.caption = Tensor(); });
  refuses([](STDiT3Inputs& in) { in.caption = normal({2, 2, 6, 12}, 1); });
  refuses([](STDiT3Inputs& in) { in.caption = normal({3, 1, 6, 12}, 1); });
  refuses([](STDiT3Inputs& in) { in.caption = normal({2, 1, 6, 11}, 1); });
  refuses([](STDiT3Inputs& in) { in.caption_mask = at::ones({2, 5}); });
  refuses([](STDiT3Inputs& in) { in.caption_mask = at::ones({3, 6}); });
  refuses([](STDiT3Inputs& in) { in.caption_mask = stdit3_mask({3, 0}); });
  refuses([](STDiT3Inputs& in) { in.height = 0; });
  refuses([](STDiT3Inputs& in) { in.width = std::nan(""); });
  refuses([](STDiT3Inputs& in) { in.valid_depth = 3; });
  STDiT3Config skips = tiny_stdit3();
  skips.skip_y_embedder = true;
  const TestSTDiT3 packed(skips);
  EXPECT_THROW(packed(stdit3_inputs()), UsageError);
}

TEST(STDiT3Flops, CountWhatTheLayersMultiply) {
  TestSTDiT3 model;
  CountingWeights counting(model.weights);
  model.run.weights = &counting;
  model(stdit3_inputs(2, {3, 5, 7}));
  const double t = 3, s = 12, width = 16, tokens = 6;
  const double patches = 2 * 2 * t * s * width * (4 * 4);  // not a linear layer
  const double attention = 2 * 2 * (t * s * 4 * (s + t) * width + 2 * t * s * 4 * tokens * width);
  EXPECT_DOUBLE_EQ(stdit3_flops(model.model.config(), 3, 5, 7, 6, 2), counting.flops + patches + attention);
}

}  // namespace
}  // namespace kinora::models
