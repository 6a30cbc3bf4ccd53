// Adapters on the fly: the clip of merged weights, under everything that attaches beside, and refused before work.
#include "kinora/video/adapters.h"

#include <gtest/gtest.h>

#include <functional>

#include "kinora/base/error.h"
#include "kinora/comm/threads.h"
#include "kinora/video/fit.h"
#include "kinora/video/pieces.h"
#include "kinora/video/pipeline.h"
#include "kinora/video/test_adapter.h"

namespace kinora::video {
namespace {

namespace fs = std::filesystem;

TEST(Adapter, IsReadFromItsText) {
  const TempFolder folder;
  const std::string odd = folder.path() / "style:2";
  write_file(odd, "");
  EXPECT_EQ(parse_adapter("a.safetensors").path, "a.safetensors");
  EXPECT_EQ(parse_adapter("a.safetensors").strength, 1);
  EXPECT_EQ(parse_adapter("a:b.safetensors:-0.5").path, "a:b.safetensors");
  EXPECT_EQ(parse_adapter("a:b.safetensors:-0.5").strength, -0.5);
  EXPECT_EQ(parse_adapter(odd).path, odd);
  EXPECT_EQ(parse_adapter(odd + ":3").path, odd);
  for (const char* text : {"a:", "a:x", "a:1x", "a:nan", "a:inf", "a:1e999", "b:c.safetensors"})
    EXPECT_THROW(parse_adapter(text), UsageError) << text;
}

class AdaptersTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TestModel;
    model_->transformer.hidden_size = 96;  // matrices that are worth streaming
    model_->transformer.num_heads = 3;
    model_->write();
    const models::STDiT3 transformer(model_->transformer);
    const text::T5Encoder encoder(model_->text_encoder);
    rows_ = new NamedTensors(adapter_for(transformer.params(), "spatial_blocks.", 4, 1));
    for (const auto& half : adapter_for(transformer.params(), "temporal_blocks.1.", 7, 2)) rows_->push_back(half);
    texts_ = new NamedTensors(adapter_for(encoder.params(), "encoder.block.", 3, 3));
    save_tensors(rows_file(), *rows_);
    save_tensors(texts_file(), *texts_);
    NamedTensors both;  // as diffusers names them
    for (const auto& [name, half] : *rows_) both.emplace_back("transformer." + name, half);
    for (const auto& [name, half] : *texts_) both.emplace_back("text_encoder." + name, half);
    save_tensors(both_file(), both);
  }
  static void TearDownTestSuite() { delete model_, delete rows_, delete texts_; }
  static fs::path rows_file() { return model_->folder / "rows.safetensors"; }
  static fs::path texts_file() { return model_->folder / "texts.safetensors"; }
  static fs::path both_file() { return model_->folder / "both.safetensors"; }

  static Pipeline load(std::vector<Adapter> adapters, const std::string& offload = "none",
                       comm::Communicator* ranks = nullptr, at::ScalarType dtype = at::kFloat) {
    PipelineOptions options;
    options.paths.model = model_->folder;
    options.dtype = dtype, options.ranks = ranks;
    options.offload = parse_offload(offload), options.adapters = std::move(adapters);
    return Pipeline::load(options);
  }
  static Request red_ball(const char* cache = "none") {
    Request request;
    request.prompts = {"a red ball moves right"};
    request.seed = 5, request.cache = cache;
    return request;
  }
  static Tensor latents(Pipeline pipeline, const Request& request = red_ball()) {
    return pipeline.generate(request).at(0).latents;
  }
  /// Of the model with `strength` times the adapter in its weights.
  static Tensor of_merged(double rows, double texts) {
    TestModel model;
    model.transformer = model_->transformer;
    model.write();
    const auto put = [](const fs::path& file, const Params& params, uint64_t seed, const NamedTensors& halves,
                        double strength) { save_tensors(file, merged(test_weights(params, seed), halves, strength)); };
    put(model.transformer_file(), models::STDiT3(model.transformer).params(), 1, *rows_, rows);
    put(model.folder / "text_encoder/model.safetensors", text::T5Encoder(model.text_encoder).params(), 3, *texts_,
        texts);
    PipelineOptions options;
    options.paths.model = model.folder;
    options.dtype = at::kFloat;
    return latents(Pipeline::load(options));
  }
  static double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

  static TestModel* model_;
  static NamedTensors *rows_, *texts_;
};
TestModel* AdaptersTest::model_ = nullptr;
NamedTensors *AdaptersTest::rows_ = nullptr, *AdaptersTest::texts_ = nullptr;

// Of the largest latent: sums in another order, through three steps of the model.
constexpr double kMerged = 1e-4;

TEST_F(AdaptersTest, GiveTheClipOfMergedWeights) {
  const Tensor plain = latents(load({}));
  const double largest = plain.abs().max().item<double>();
  const auto is_merged = [&](std::vector<Adapter> adapters, double rows, double texts) {
    const Tensor made = latents(load(std::move(adapters))), want = of_merged(rows, texts);
    EXPECT_LT(distance(made, want), kMerged * largest);
    EXPECT_GT(distance(want, plain), 100 * kMerged * largest);
  };
  is_merged({{rows_file(), 0.5}}, 0.5, 0);
  is_merged({{texts_file()}}, 0, 1);
  is_merged({{both_file(), -1}}, -1, -1);
  is_merged({{rows_file(), 0.25}, {rows_file(), 0.5}, {texts_file(), 2}}, 0.75, 2);
}

TEST_F(AdaptersTest, StrengthZeroGivesTheBytesOfNone) {
  EXPECT_TRUE(latents(load({{both_file(), 0}})).equal(latents(load({}))));
}

TEST_F(AdaptersTest, AFolderInPeftsFormHasItsScaleBesideIt) {
  const fs::path folder = model_->folder / "peft";
  fs::create_directory(folder);
  NamedTensors named;
  for (const auto& [name, half] : *rows_) named.emplace_back("base_model.model." + name, half);
  save_tensors(folder / "adapter_model.safetensors", named);
  write_file(folder / "adapter_config.json", R"({"r": 4, "lora_alpha": 4, "peft_type": "LORA"})");
  const Tensor one = latents(load({{folder}}));
  write_file(folder / "adapter_config.json", R"({"r": 4, "lora_alpha": 2, "peft_type": "LORA"})");
  EXPECT_GT(distance(latents(load({{folder}})), one), 0);
  EXPECT_TRUE(latents(load({{folder, 2}})).equal(one));
}

TEST_F(AdaptersTest, GiveTheSameBytesOverStreamedWeightsAndUnderCaches) {
  const std::vector<Adapter> both{{both_file(), 0.5}};
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Tensor want = latents(load(both, "none", nullptr, dtype));
    for (const char* offload : {"stream:0", "stream:1"})
      EXPECT_TRUE(latents(load(both, offload, nullptr, dtype)).equal(want)) << offload << " " << dtype;
  }
  for (const char* cache : {"pab:window=0..1000", "first-block:threshold=0.5"}) {
    Request request = red_ball(cache);
    request.steps = 6;
    const Tensor want = latents(load(both), request);
    EXPECT_TRUE(latents(load(both, "stream:0"), request).equal(want)) << cache;
    EXPECT_GT(distance(latents(load({}), request), want), 0) << cache;
  }
}

TEST_F(AdaptersTest, GiveTheSameBytesInPiecesWithinWhatWasPlanned) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    Pipeline pipeline = load({{both_file()}}, "none", nullptr, dtype);
    Request request = red_ball();
    request.num_frames = 12, request.height = 32, request.width = 48, request.steps = 2;
    const Plan whole = pipeline.plan(request);
    const Tensor want = pipeline.generate(whole)[0].latents;
    const BlockPieces blocks(pipeline.sizes(), whole, nullptr);
    Plan cut = whole;
    cut.pieces = blocks.within(blocks.least());  // a budget that the blocks' own plan has to meet, too
    EXPECT_TRUE(pipeline.generate(cut)[0].latents.equal(want)) << dtype;
  }
}

TEST_F(AdaptersTest, AreTheSameOnRanksThatCutNoWeights) {
  const std::vector<Adapter> both{{both_file(), 0.5}};
  const Tensor want = latents(load(both));
  for (const char* layout : {"dsp", "ulysses", "ring", "guidance"}) {
    comm::run_ranks(2, [&](comm::Communicator& group) {
      Request request = red_ball();
      request.parallel = layout;
      const Tensor made = latents(load(both, "none", &group), request);
      EXPECT_LT(distance(made, want), 1e-4) << layout << " on rank " << group.rank();
    });
  }
  Request request = red_ball();
  request.ranks = 2, request.parallel = "megatron";
  EXPECT_NO_THROW(load({}).plan(request));
  EXPECT_NO_THROW(load({{texts_file()}}).plan(request));
  EXPECT_THROW(load(both).plan(request), UsageError);
}

TEST_F(AdaptersTest, CountInTheEstimateAndStreamBeside) {
  const auto bytes_of = [](const NamedTensors& halves) {
    uint64_t total = 0;
    for (const auto& [name, half] : halves) total += half.nbytes();
    return total;
  };
  const ModelSizes plain = load({}, "auto").sizes(), with = load({{both_file()}, {rows_file()}}, "auto").sizes();
  EXPECT_EQ(with.transformer_bytes, plain.transformer_bytes + 2 * bytes_of(*rows_));
  EXPECT_EQ(with.text_bytes, plain.text_bytes + bytes_of(*texts_));
  EXPECT_EQ(with.streamed->transformer_bytes, plain.streamed->transformer_bytes + 2 * bytes_of(*rows_));
  EXPECT_EQ(with.streamed->text_bytes, plain.streamed->text_bytes + bytes_of(*texts_));
  EXPECT_EQ(load({{both_file(), 0}}).sizes().transformer_bytes, plain.transformer_bytes);

  // In the least that streams, the ring fits beside the adapter.
  Pipeline pipeline = load({{both_file()}}, "auto");
  Request request = red_ball();
  request.chunk = "none";
  Plan plan = pipeline.plan(request);
  const Fit fit = fit_into(pipeline.sizes(), plan, {least_room(pipeline.sizes(), plan)});
  ASSERT_TRUE(fit.weights.transformer);
  plan = fitted(plan, fit);
  EXPECT_TRUE(pipeline.generate(plan)[0].latents.equal(latents(load({{both_file()}}))));
}

TEST_F(AdaptersTest, TheClipSaysWhatMadeItAndAJobGoesOnWithTheSameAlone) {
  Pipeline pipeline = load({{rows_file(), 0.5}, {both_file(), 0}});
  Job first, last;
  Hooks hooks;
  hooks.on_job = [&](const Job& job) { (job.is_denoised ? last : first) = job; };
  const Clip clip = pipeline.generate(red_ball(), hooks)[0];
  const Json said = Json::parse(clip.metadata.settings).at("lora");
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[0].at("name"), "rows.safetensors");
  EXPECT_EQ(said[0].at("strength"), 0.5);
  EXPECT_EQ(said[1].at("name"), "both.safetensors");
  Pipeline none = load({});
  EXPECT_FALSE(Json::parse(none.generate(red_ball())[0].metadata.settings).contains("lora"));

  const auto goes_on = [&](Pipeline other) { return other.generate(other.plan(red_ball()), {}, first); };
  EXPECT_TRUE(goes_on(load({{rows_file(), 0.5}, {both_file(), 0}}))[0].latents.equal(clip.latents));
  EXPECT_THROW(goes_on(load({{rows_file(), 0.6}, {both_file(), 0}})), UsageError);
  EXPECT_THROW(goes_on(load({})), UsageError);
  // Decoding needs no adapter, and says what the latents were made with.
  EXPECT_EQ(none.generate(none.plan(last), {}, last)[0].metadata.settings, clip.metadata.settings);
}

TEST_F(AdaptersTest, WhatDoesNotFitIsRefusedWhenThePipelineIsMade) {
  EXPECT_THROW(load({{model_->folder / "none.safetensors"}}), UsageError);
  EXPECT_THROW(load({{model_->folder / "none.safetensors", 0}}), UsageError);
  EXPECT_THROW(load({{model_->transformer_file()}}), DataError);  // a model, and no adapter
  const fs::path file = model_->folder / "wrong.safetensors";
  const auto refused = [&](NamedTensors halves) -> std::string {
    save_tensors(file, halves);
    try {
      load({{file}});
    } catch (const DataError& error) {
      return error.what();
    }
    return {};
  };
  const auto [name, a] = rows_->at(0);
  EXPECT_NE(refused({{name, a}}).find("missing"), std::string::npos);
  EXPECT_NE(refused({{"spatial_blocks.9.attn.qkv.lora_A.weight", a}}).find("spatial_blocks.9"), std::string::npos);
  EXPECT_NE(refused({{"vae.decoder.conv_in.lora_A.weight", a}}).find("conv_in"), std::string::npos);
  EXPECT_NE(refused({rows_->at(0), {rows_->at(1).first, at::ones({5, 4})}}).find("[5, 4]"), std::string::npos);
  EXPECT_FALSE(refused({rows_->at(0), {rows_->at(1).first, rows_->at(1).second * NAN}}).empty());
  write_file(file, "no safetensors");
  EXPECT_THROW(load({{file}}), DataError);
}

}  // namespace
}  // namespace kinora::video
