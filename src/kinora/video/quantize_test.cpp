// Weights as bytes in a pipeline: near the plain clip, in pieces to the same bits, refused where they would be cut.
#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/comm/threads.h"
#include "kinora/video/pieces.h"
#include "kinora/video/pipeline.h"
#include "kinora/video/test_adapter.h"

namespace kinora::video {
namespace {

TEST(Quantize, IsReadFromItsText) {
  EXPECT_FALSE(parse_quantize("none"));
  EXPECT_EQ(parse_quantize("int8"), offload::ByteFormat::int8);
  EXPECT_EQ(parse_quantize("fp8"), offload::ByteFormat::fp8);
  for (const char* text : {"", "int4", "INT8", "auto"}) EXPECT_THROW(parse_quantize(text), UsageError) << text;
}

class QuantizeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TestModel;
    model_->transformer.hidden_size = 96, model_->transformer.num_heads = 3;
    model_->write();
    adapter_ = model_->folder / "adapter.safetensors";
    save_tensors(adapter_, adapter_for(models::STDiT3(model_->transformer).params(), "spatial_blocks.", 4, 1));
  }
  static void TearDownTestSuite() { delete model_; }
  static Pipeline load(const std::string& quantize, at::ScalarType dtype = at::kFloat,
                       const std::string& offload = "auto", std::vector<Adapter> adapters = {},
                       comm::Communicator* ranks = nullptr) {
    PipelineOptions options;
    options.paths.model = model_->folder;
    options.dtype = dtype, options.ranks = ranks, options.adapters = std::move(adapters);
    options.quantize = parse_quantize(quantize), options.offload = parse_offload(offload);
    return Pipeline::load(options);
  }
  static Request red_ball() {
    Request request;
    request.prompts = {"a red ball moves right"};
    request.seed = 5, request.steps = 2;
    return request;
  }
  static double off_by(const Tensor& made, const Tensor& want) {
    return ((made - want).norm() / want.norm()).item<double>();
  }
  static TestModel* model_;
  static inline std::filesystem::path adapter_;
};
TestModel* QuantizeTest::model_ = nullptr;

TEST_F(QuantizeTest, ClipsStayNearAndSayWhatTheyAreOf) {
  const Tensor plain = load("none").generate(red_ball())[0].latents;
  double last = 0;
  for (const auto& [format, most] : {std::pair{"int8", 0.05}, {"fp8", 0.15}}) {
    Pipeline pipeline = load(format);
    const Clip clip = pipeline.generate(red_ball())[0];
    const double off = off_by(clip.latents, plain);
    EXPECT_GT(off, last) << format;
    EXPECT_LT(off, most) << format;
    EXPECT_EQ(Json::parse(clip.metadata.settings).at("quantize"), format);
    last = off;
  }
}

TEST_F(QuantizeTest, EstimatesCountBytes) {
  const ModelSizes plain = load("none").sizes(), bytes = load("int8").sizes();
  const models::STDiT3 transformer(model_->transformer);
  uint64_t want = plain.transformer_bytes;
  for (const Param& p : transformer.params()) {
    if (offload::is_product_weight(p)) want -= static_cast<uint64_t>(p.shape[0] * (3 * p.shape[1] - 4));
  }
  EXPECT_EQ(bytes.transformer_bytes, want);
  EXPECT_LT(bytes.text_bytes, plain.text_bytes);
  EXPECT_EQ(bytes.vae_bytes, plain.vae_bytes);
}

TEST_F(QuantizeTest, PiecesAreTheBitsOfTheWholeWithAnAdapterToo) {
  for (const char* format : {"int8", "fp8"}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      Pipeline pipeline = load(format, dtype, "auto", {{adapter_}});
      Request request = red_ball();
      request.num_frames = 12, request.height = 32, request.width = 48;
      const Plan whole = pipeline.plan(request);
      const Tensor want = pipeline.generate(whole)[0].latents;
      const BlockPieces blocks(pipeline.sizes(), whole, nullptr);
      Plan cut = whole;
      cut.pieces = blocks.within(blocks.least());
      EXPECT_TRUE(pipeline.generate(cut)[0].latents.equal(want)) << format << " " << dtype;
    }
  }
}

TEST_F(QuantizeTest, RanksThatCutNoWeightsMakeTheSameClip) {
  const Tensor want = load("int8").generate(red_ball())[0].latents;
  comm::run_ranks(2, [&](comm::Communicator& group) {
    Request request = red_ball();
    request.parallel = "dsp";
    const auto clips = load("int8", at::kFloat, "auto", {}, &group).generate(request);
    if (group.rank() == 0) {
      EXPECT_LT(off_by(clips[0].latents, want), 1e-5);
    }
  });
  Request request = red_ball();
  request.ranks = 2, request.parallel = "megatron";
  EXPECT_THROW(load("int8").plan(request), UsageError);
}

TEST_F(QuantizeTest, BytesAreNotStreamed) {
  EXPECT_FALSE(load("int8").sizes().streamed);
  EXPECT_THROW(load("int8", at::kFloat, "stream:1"), UsageError);
}

TEST_F(QuantizeTest, AJobGoesOnInTheSameFormatAlone) {
  Job first, last;
  Hooks hooks;
  hooks.on_job = [&](const Job& job) { (job.is_denoised ? last : first) = job; };
  Pipeline pipeline = load("int8"), plain = load("none");
  const Clip clip = pipeline.generate(red_ball(), hooks)[0];
  EXPECT_TRUE(pipeline.generate(pipeline.plan(red_ball()), {}, first)[0].latents.equal(clip.latents));
  EXPECT_THROW(plain.generate(plain.plan(red_ball()), {}, first), UsageError);
  EXPECT_EQ(plain.generate(plain.plan(last), {}, last)[0].metadata.settings, clip.metadata.settings);
}

}  // namespace
}  // namespace kinora::video
