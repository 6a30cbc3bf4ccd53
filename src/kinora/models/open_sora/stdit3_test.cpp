#include "kinora/models/open_sora/stdit3.h"

#include <ATen/core/grad_mode.h>

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/tensor/random.h"

namespace kinora::models {
namespace {

STDiT3Config tiny() {
  STDiT3Config config;
  config.hidden_size = 16;
  config.depth = 2;
  config.num_heads = 2;
  config.caption_channels = 12;
  config.model_max_length = 6;
  return config;
}

/// Every parameter drawn: with the training's first values the temporal half would add nothing.
ResidentWeights random_weights(const Params& params, at::ScalarType dtype = at::kDouble) {
  at::Generator generator = cpu_generator(7);
  std::vector<Tensor> tensors;
  for (const Param& p : params) {
    const double scale = p.shape.size() == 1 ? 0.2 : 0.8 / std::sqrt(static_cast<double>(p.shape.back()));
    const Tensor noise = at::empty(p.shape, at::kDouble).normal_(0, scale, generator);
    tensors.push_back((p.name.ends_with("norm.weight") ? noise + 1 : noise).to(dtype));
  }
  return ResidentWeights(std::move(tensors));
}

struct Model {
  explicit Model(const STDiT3Config& config = tiny(), at::ScalarType dtype = at::kDouble)
      : model(config), weights(random_weights(model.params(), dtype)) {
    run.weights = &weights;
  }
  Tensor operator()(const STDiT3Inputs& in) const { return model.forward(run, in); }

  STDiT3 model;
  ResidentWeights weights;
  Run run;
};

Tensor draw(at::IntArrayRef shape, uint64_t seed) {
  at::Generator generator = cpu_generator(seed);
  return at::empty(shape, at::kDouble).normal_(0, 1, generator);
}

STDiT3Inputs inputs(int64_t batch = 2, std::vector<int64_t> size = {3, 5, 7}) {
  STDiT3Inputs in;
  in.latents = draw({batch, 4, size[0], size[1], size[2]}, 1);
  in.timestep = at::linspace(300, 900, batch, at::kDouble);
  in.caption = draw({batch, 1, 6, 12}, 2);
  in.fps = at::full({1}, 24, at::kDouble);
  in.height = 144;
  in.width = 256;
  return in;
}

Tensor prefixes(const std::vector<int64_t>& lengths) {
  Tensor mask = at::zeros({static_cast<int64_t>(lengths.size()), 6}, at::kLong);
  for (size_t i = 0; i < lengths.size(); ++i) mask[static_cast<int64_t>(i)].narrow(0, 0, lengths[i]).fill_(1);
  return mask;
}

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

const char* word(Point point) { return point == Point::module ? " module" : " residual"; }

/// Writes down what passes; reuses the residuals that it kept of the call before where `from_call` says so.
class Recorder : public Policy {
 public:
  bool reuses(const SiteKey& key, const Run& run) const override {
    return run.step.call >= from_call && key.point == Point::residual;
  }
  Streams reuse(const SiteKey& key, const Run&) override { return kept.at(std::string(key.path)); }
  void keep(const SiteKey& key, const Run&, const Streams& streams) override {
    seen.push_back(std::string(key.path) + word(key.point));
    kinds.push_back(key.kind);
    blocks.push_back(key.block);
    if (key.point == Point::residual) kept[std::string(key.path)] = streams;
  }
  Streams stack(const Run& run, const Stack& s, Streams streams) override {
    num_blocks = s.blocks;
    modulated_input = s.probe(run, "modulated_input", streams);
    time_embed = s.probe(run, "time_embed", streams);
    no_probe = s.probe(run, "no such probe", streams);
    return Policy::stack(run, s, std::move(streams));
  }

  int from_call = 1, num_blocks = 0;
  std::vector<std::string> seen;
  std::vector<Kind> kinds;
  std::vector<int> blocks;
  std::map<std::string, Streams> kept;
  Tensor modulated_input, time_embed, no_probe;
};

/// Counts what a layout is asked for.
class CountingLayout : public Layout {
 public:
  Tensor local(const Tensor& whole, Axis, int) const override { return ++locals, whole; }
  Tensor whole(const Tensor& local, Axis, int, const Extent&) const override { return ++wholes, local; }
  Streams with_whole(Axis axis, const Extent& extent, Streams streams,
                     c10::function_ref<Streams(Streams)> f) const override {
    axes.push_back(axis);
    extents.push_back(extent);
    return f(std::move(streams));
  }
  mutable int locals = 0, wholes = 0;
  mutable std::vector<Axis> axes;
  mutable std::vector<Extent> extents;
};

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
  const STDiT3 model(tiny());
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
  STDiT3Config config = tiny();
  config.only_train_temporal = true;
  const STDiT3 model(config);
  for (const Param& p : model.params()) {
    EXPECT_EQ(model.params().options(p.id).trainable, p.name.starts_with("temporal_blocks.")) << p.name;
  }
}

TEST(STDiT3Forward, GivesTheLatentsShapeForOddSizesInEveryDtype) {
  const Model exact;
  for (const auto& size : std::vector<std::vector<int64_t>>{{1, 2, 2}, {1, 5, 3}, {3, 1, 1}, {17, 3, 5}, {2, 7, 13}}) {
    const STDiT3Inputs in = inputs(3, size);
    const Tensor want = exact(in);
    EXPECT_EQ(want.sizes(), at::IntArrayRef({3, 8, size[0], size[1], size[2]}));
    EXPECT_EQ(want.scalar_type(), at::kDouble);
    for (const auto& [dtype, tolerance] : {std::pair(at::kFloat, 1e-4), std::pair(at::kBFloat16, 4e-2)}) {
      const Tensor got = Model(tiny(), dtype)(in);
      EXPECT_EQ(got.scalar_type(), at::kFloat);
      EXPECT_LT(relative(got, want), tolerance) << dtype << " " << at::IntArrayRef(size);
    }
  }
}

TEST(STDiT3Forward, ServesPromptsOfDifferentLengthsTogetherAsAlone) {
  const Model model;
  STDiT3Inputs in = inputs(3);
  in.caption_mask = prefixes({2, 6, 3});
  const Tensor together = model(in);
  for (int64_t b = 0; b < 3; ++b) EXPECT_LT(relative(together.narrow(0, b, 1), model(sample_of(in, b))), 1e-12);
}

TEST(STDiT3Forward, NeverLooksAtMaskedTokens) {
  const Model model;
  STDiT3Inputs in = inputs(2);
  in.caption_mask = prefixes({2, 4});
  STDiT3Inputs other = in;
  other.caption = in.caption.clone();
  other.caption.narrow(2, 4, 2).fill_(std::nan(""));
  EXPECT_TRUE(at::equal(model(in), model(other)));
}

TEST(STDiT3Forward, RepeatsAShorterMaskForTheOtherHalf) {
  const Model model;
  STDiT3Inputs in = inputs(4), whole = in;
  in.caption_mask = prefixes({2, 5});
  whole.caption_mask = prefixes({2, 5, 2, 5});
  EXPECT_TRUE(at::equal(model(in), model(whole)));
}

TEST(STDiT3Forward, TakesAFrameMaskOfOnesAsNone) {
  const Model model;
  STDiT3Inputs in = inputs();
  const Tensor want = model(in);
  in.frame_mask = at::ones({2, 3}, at::kBool);
  EXPECT_TRUE(at::equal(model(in), want));
  in.frame_mask[1][2] = false;
  const Tensor masked = model(in);
  EXPECT_LT(relative(masked[0], want[0]), 1e-12) << "a sample without given frames changed";
  EXPECT_GT(relative(masked[1], want[1]), 1e-3);
}

TEST(STDiT3Forward, TakesCaptionsEmbeddedOnce) {
  const Model model;
  STDiT3Inputs in = inputs();
  in.caption_mask = prefixes({1, 5});
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

  STDiT3Config skips = tiny();
  skips.skip_y_embedder = true;
  const Model packed(skips);
  in.caption = caption.tokens;
  in.caption_mask = at::tensor({1, 5}, at::kLong);
  EXPECT_TRUE(at::equal(packed(in), want));
}

TEST(STDiT3Forward, StopsAfterTheWantedDepth) {
  STDiT3Config shallow = tiny();
  shallow.depth = 1;
  const Model deep, reference(shallow);
  for (const Param& p : reference.model.params()) {
    reference.run.weights->get(p).copy_(deep.run.weights->get(*deep.model.params().find(p.name)));
  }
  STDiT3Inputs in = inputs();
  const Tensor want = reference(in);
  in.valid_depth = 1;
  EXPECT_TRUE(at::equal(deep(in), want));
}

TEST(STDiT3Forward, StopsWhenCancelled) {
  Model model;
  std::stop_source source;
  source.request_stop();
  model.run.cancel = source.get_token();
  EXPECT_THROW(model(inputs()), CancelledError);
}

TEST(STDiT3Sites, PassInTheOrderOfTheWorkModuleBeforeResidual) {
  Model model;
  const Tensor want = model(inputs());
  Recorder recorder;
  model.run.policy = &recorder;
  const Tensor got = model(inputs());
  EXPECT_TRUE(at::equal(got, want)) << "a policy that only looks on changed the result";
  std::vector<std::string> order;
  std::vector<int> blocks;
  for (const std::string b : {"0", "1"}) {
    for (const std::string kind : {"spatial_blocks.", "temporal_blocks."}) {
      for (const std::string part : {".attn", ".cross_attn", ".mlp"}) {
        for (const std::string point : {" module", " residual"}) {
          order.push_back(kind + b + part + point);
          blocks.push_back(2 * std::stoi(b) + (kind == "temporal_blocks." ? 1 : 0));
        }
      }
    }
  }
  EXPECT_EQ(recorder.seen, order);
  EXPECT_EQ(recorder.blocks, blocks);
  EXPECT_EQ(recorder.num_blocks, 4);
  EXPECT_EQ(recorder.kinds[0], Kind::spatial);
  EXPECT_EQ(recorder.kinds[2], Kind::cross);
  EXPECT_EQ(recorder.kinds[4], Kind::mlp);
  EXPECT_EQ(recorder.kinds[6], Kind::temporal);
  EXPECT_EQ(recorder.modulated_input.sizes(), at::IntArrayRef({2, 3, 12, 16}));
  EXPECT_EQ(recorder.time_embed.sizes(), at::IntArrayRef({2, 16}));
  EXPECT_FALSE(recorder.no_probe.defined());
}

TEST(STDiT3Sites, KeepTheirBitsWithAPolicyInEveryDtype) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Model model(tiny(), dtype);
    const Tensor want = model(inputs());
    Recorder recorder;
    model.run.policy = &recorder;
    EXPECT_TRUE(at::equal(model(inputs()), want)) << dtype;
  }
}

TEST(STDiT3Sites, ReusedResidualsSkipTheLayoutAndGiveTheSame) {
  Model model;
  Recorder recorder;
  CountingLayout layout;
  model.run.policy = &recorder;
  model.run.layout = &layout;
  const Tensor first = model(inputs());
  EXPECT_EQ(layout.axes, std::vector<Axis>({Axis::rows, Axis::frames, Axis::rows, Axis::frames}));
  EXPECT_EQ(layout.extents[1].frames, 3);
  EXPECT_EQ(layout.extents[1].rows, 12);
  EXPECT_EQ(layout.locals, 2);
  EXPECT_EQ(layout.wholes, 2);
  layout.axes.clear();
  recorder.seen.clear();
  model.run.step.call = 1;
  EXPECT_TRUE(at::equal(model(inputs()), first));
  EXPECT_TRUE(layout.axes.empty());
  EXPECT_TRUE(recorder.seen.empty());
}

TEST(STDiT3Gradients, EqualDifferencesOfTheLoss) {
  STDiT3Config config = tiny();
  config.depth = 1;
  Model model(config);
  STDiT3Inputs in = inputs(2, {2, 3, 4});
  in.caption_mask = prefixes({2, 5});
  in.frame_mask = at::ones({2, 2}, at::kBool);
  in.frame_mask[0][1] = false;
  const Tensor cotangent = draw({2, 8, 2, 3, 4}, 5);
  const auto loss = [&] { return (model(in) * cotangent).sum(); };
  for (const Param& p : model.model.params()) model.weights.tensors()[p.id].requires_grad_(p.name != "rope.freqs");
  loss().backward();
  at::NoGradGuard no_grad;
  at::Generator generator = cpu_generator(11);
  for (const Param& p : model.model.params()) {
    if (p.name == "rope.freqs" || p.name == "y_embedder.y_embedding") continue;
    Tensor& w = model.weights.tensors()[p.id];
    ASSERT_TRUE(w.grad().defined()) << p.name;
    ASSERT_TRUE(w.grad().isfinite().all().item<bool>()) << p.name;
    const Tensor direction = at::empty(p.shape, at::kDouble).normal_(0, 1, generator);
    const Tensor before = w.detach().clone();
    const double step = 1e-5;
    w.copy_(before + step * direction);
    const double above = loss().item<double>();
    w.copy_(before - step * direction);
    const double below = loss().item<double>();
    w.copy_(before);
    const double want = (above - below) / (2 * step), got = (w.grad() * direction).sum().item<double>();
    EXPECT_NEAR(got, want, 1e-4 * std::max(1.0, std::abs(want))) << p.name;
  }
}

TEST(STDiT3Errors, NameWhatDoesNotFit) {
  const Model model;
  const auto refuses = [&](auto change) {
    STDiT3Inputs in = inputs();
    change(in);
    EXPECT_THROW(model(in), UsageError);
  };
  refuses([](STDiT3Inputs& in) { in.latents = Tensor(); });
  refuses([](STDiT3Inputs& in) { in.latents = draw({2, 3, 3, 4, 4}, 1); });
  refuses([](STDiT3Inputs& in) { in.latents = draw({2, 4, 0, 4, 4}, 1); });
  refuses([](STDiT3Inputs& in) { in.timestep = draw({3}, 1); });
  refuses([](STDiT3Inputs& in) { in.fps = draw({3}, 1); });
  refuses([](STDiT3Inputs& in) { in.frame_mask = at::ones({2, 4}, at::kBool); });
  refuses([](STDiT3Inputs& in) { in.caption = Tensor(); });
  refuses([](STDiT3Inputs& in) { in.caption = draw({2, 2, 6, 12}, 1); });
  refuses([](STDiT3Inputs& in) { in.caption = draw({3, 1, 6, 12}, 1); });
  refuses([](STDiT3Inputs& in) { in.caption = draw({2, 1, 6, 11}, 1); });
  refuses([](STDiT3Inputs& in) { in.caption_mask = at::ones({2, 5}); });
  refuses([](STDiT3Inputs& in) { in.caption_mask = at::ones({3, 6}); });
  refuses([](STDiT3Inputs& in) { in.caption_mask = prefixes({3, 0}); });
  refuses([](STDiT3Inputs& in) { in.height = 0; });
  refuses([](STDiT3Inputs& in) { in.width = std::nan(""); });
  refuses([](STDiT3Inputs& in) { in.valid_depth = 3; });
  STDiT3Config skips = tiny();
  skips.skip_y_embedder = true;
  const Model packed(skips);
  EXPECT_THROW(packed(inputs()), UsageError);
}

/// Counts what it multiplies.
class CountingWeights : public WeightSource {
 public:
  explicit CountingWeights(WeightSource& from) : from_(from) {}
  Tensor get(const Param& param) override { return from_.get(param); }
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) override {
    flops += 2.0 * static_cast<double>(x.numel() * weight.shape[0]);
    return from_.linear(x, weight, bias);
  }
  double flops = 0;

 private:
  WeightSource& from_;
};

TEST(STDiT3Flops, CountWhatTheLayersMultiply) {
  Model model;
  CountingWeights counting(model.weights);
  model.run.weights = &counting;
  model(inputs(2, {3, 5, 7}));
  const double t = 3, s = 12, width = 16, tokens = 6;
  const double patches = 2 * 2 * t * s * width * (4 * 4);  // not a linear layer
  const double attention = 2 * 2 * (t * s * 4 * (s + t) * width + 2 * t * s * 4 * tokens * width);
  EXPECT_DOUBLE_EQ(stdit3_flops(model.model.config(), 3, 5, 7, 6, 2), counting.flops + patches + attention);
}

}  // namespace
}  // namespace kinora::models
