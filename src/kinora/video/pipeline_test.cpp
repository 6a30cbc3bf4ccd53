#include "kinora/video/pipeline.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/memory.h"
#include "kinora/base/test_asan.h"
#include "kinora/video/test_model.h"

namespace kinora::video {
namespace {

PipelineOptions options_for(const TestModel& model, at::ScalarType dtype = at::kFloat) {
  PipelineOptions options;
  options.paths.model = model.folder;
  options.dtype = dtype;
  return options;
}

Request request_for(std::vector<std::string> prompts, uint64_t seed = 5) {
  Request request;
  request.prompts = std::move(prompts);
  request.seed = seed;
  return request;
}

double distance(const at::Tensor& a, const at::Tensor& b) { return ((a - b).norm() / b.norm()).item<double>(); }

class PipelineTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TestModel;
    model_->write();
  }
  static void TearDownTestSuite() { delete model_; }
  static Pipeline load(at::ScalarType dtype = at::kFloat) { return Pipeline::load(options_for(*model_, dtype)); }
  static TestModel* model_;
};
TestModel* PipelineTest::model_ = nullptr;

TEST_F(PipelineTest, MakesTheClipThatWasAskedFor) {
  Pipeline pipeline = load();
  const auto clips = pipeline.generate(request_for({"a red ball moves right"}));
  ASSERT_EQ(clips.size(), 1u);
  const media::Frames& frames = clips[0].frames;
  EXPECT_EQ(frames.frames, 9);
  EXPECT_EQ(frames.height, 16);
  EXPECT_EQ(frames.width, 24);
  EXPECT_EQ(frames.fps, 8);
  EXPECT_EQ(frames.rgb.size(), 9u * 16 * 24 * 3);
  EXPECT_EQ(clips[0].metadata.prompt, "a red ball moves right");
  EXPECT_EQ(clips[0].metadata.frames, clips[0].frames.frames);
  EXPECT_EQ(clips[0].metadata.seed, std::optional<uint64_t>(5));
  EXPECT_EQ(Json::parse(clips[0].metadata.settings).at("steps"), 3);
}

TEST_F(PipelineTest, ACacheThatReusesNothingGivesTheSameClip) {
  Pipeline pipeline = load();
  Request request = request_for({"a red ball moves right"});
  request.steps = 6;
  const at::Tensor plain = pipeline.generate(request)[0].latents;
  for (const char* cache : {"pab:spatial=1,temporal=1,cross=1,mlp=off", "pab:window=500..500,mlp=off",
                            "first-block:threshold=0", "tea:threshold=0", "taylor:interval=1", "easy:threshold=0",
                            "ada:changes=0.1+0.2,rates=1+1+1", "faster:spatial=1,uncond=1"}) {
    request.cache = cache;
    EXPECT_TRUE(pipeline.generate(request)[0].latents.equal(plain)) << cache;
  }
}

TEST_F(PipelineTest, ACacheIsCountedTracedAndPartOfTheEstimate) {
  Pipeline pipeline = load();
  Request request = request_for({"a red ball moves right", "blue square"});
  request.steps = 6;
  const Plan without = pipeline.plan(request);
  request.cache = "pab:window=0..1000,mlp=off";
  const Plan plan = pipeline.plan(request);
  EXPECT_GT(estimate_memory(pipeline.sizes(), plan).denoise, estimate_memory(pipeline.sizes(), without).denoise);
  std::map<std::string, cache::Hits, std::less<>> hits;
  int64_t decisions = 0;
  Hooks hooks;
  hooks.on_decision = [&](const cache::Decision&) { ++decisions; };
  hooks.on_cache = [&](const cache::Method& method) { hits = method.hits(); };
  const auto clips = pipeline.generate(plan, hooks);
  EXPECT_EQ(Json::parse(clips[0].metadata.settings).at("cache"), request.cache);
  const int64_t depth = pipeline.sizes().transformer.depth;
  EXPECT_EQ(hits.at("spatial").reused, 3 * depth);  // calls 1, 3, 5
  EXPECT_EQ(hits.at("temporal").computed, 2 * depth);
  EXPECT_EQ(hits.at("cross").computed, 2 * depth);
  EXPECT_EQ(decisions, 6 * 6 * depth) << "three sublayers in two blocks, in six calls; a guided pair counts once";

  request.cache = "easy";
  EXPECT_EQ(pipeline.plan(request).batch, 1) << "what looks at values must not look at a neighbour's";
  for (const char* wrong : {"pub", "pab:spatial=0", "pab:full=2", "mag"}) {
    request.cache = wrong;
    EXPECT_THROW(pipeline.plan(request), UsageError) << wrong;
  }
  request.cache = "faster", request.guidance_scale = 1;
  EXPECT_THROW(pipeline.plan(request), UsageError) << "no branch to leave out";
}

TEST_F(PipelineTest, TwoHundredRequestsHoldNoMoreMemoryThanFifty) {
  if (kIsAsan) GTEST_SKIP() << "what was freed stays with the sanitizer";
  Pipeline pipeline = load();
  uint64_t after_fifty = 0;
  for (int i = 0; i < 200; ++i) {
    Request request = request_for({"a red ball moves right"}, static_cast<uint64_t>(i));
    request.num_frames = 5 + i % 3 * 4, request.height = 16 + i % 5 * 2, request.steps = 1;
    pipeline.generate(request);
    if (i == 49) after_fifty = resident_bytes();
  }
  EXPECT_LT(resident_bytes(), after_fifty + (uint64_t{4} << 20));
}

TEST_F(PipelineTest, OddSizesAndSinglePicturesWork) {
  Pipeline pipeline = load();
  for (const auto& [frames, height, width] :
       {std::tuple<int64_t, int64_t, int64_t>{1, 17, 23}, {5, 2, 2}, {14, 18, 31}}) {
    Request request = request_for({"a ball"});
    request.num_frames = frames, request.height = height, request.width = width, request.steps = 1;
    const auto clip = pipeline.generate(request)[0];
    EXPECT_EQ(clip.frames.frames, frames);
    EXPECT_EQ(clip.frames.height, height / 2 * 2);
    EXPECT_EQ(clip.frames.width, width / 2 * 2);
  }
}

TEST_F(PipelineTest, AClipDoesNotDependOnItsBatch) {
  Pipeline pipeline = load();
  const std::vector<std::string> prompts{"a red ball moves right", "blue square", "a ball moves left fast"};
  const auto together = pipeline.generate(request_for(prompts, 40));
  Request two_at_a_time = request_for(prompts, 40);
  two_at_a_time.batch = 2;
  const auto parts = pipeline.generate(two_at_a_time);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto alone = pipeline.generate(request_for({prompts[i]}, 40 + i));
    EXPECT_LT(distance(together[i].latents, alone[0].latents), 1e-5) << i;
    EXPECT_LT(distance(parts[i].latents, alone[0].latents), 1e-5) << i;
    EXPECT_EQ(together[i].metadata.seed, alone[0].metadata.seed);
  }
}

TEST_F(PipelineTest, SeedPromptNegativePromptAndGuidanceEachMatter) {
  Pipeline pipeline = load();
  const auto latents = [&](const Request& request) { return pipeline.generate(request)[0].latents; };
  const Request base = request_for({"a red ball"});
  const at::Tensor first = latents(base);
  EXPECT_TRUE(first.equal(latents(base)));
  EXPECT_GT(distance(latents(request_for({"a red ball"}, 6)), first), 0.1);
  EXPECT_GT(distance(latents(request_for({"blue square"})), first), 1e-4);
  Request negative = base;
  negative.negative_prompt = "blue square moves";
  EXPECT_GT(distance(latents(negative), first), 1e-4);
  Request unguided = base;
  unguided.guidance_scale = 1;
  EXPECT_GT(distance(latents(unguided), first), 1e-4);
}

TEST_F(PipelineTest, FramesCanBeTakenAsTheyAreDecoded) {
  Pipeline pipeline = load();
  const Request request = request_for({"a red ball", "blue square"});
  const auto whole = pipeline.generate(request);
  std::vector<std::vector<uint8_t>> seen(2);
  Hooks hooks;
  hooks.on_frames = [&](int64_t index, const media::Frames& frames, int64_t first) {
    EXPECT_EQ(first * frames.frame_bytes(), static_cast<int64_t>(seen[index].size()));
    seen[index].insert(seen[index].end(), frames.rgb.begin(), frames.rgb.end());
  };
  const auto clips = pipeline.generate(request, hooks);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(seen[i], whole[i].frames.rgb);
    EXPECT_EQ(clips[i].frames.frames, 0);
  }
}

TEST_F(PipelineTest, OnePartAtATimeGivesTheSameClip) {
  Pipeline pipeline = load();
  Plan plan = pipeline.plan(request_for({"a red ball"}));
  const auto together = pipeline.generate(plan);
  plan.one_by_one = true;
  EXPECT_TRUE(pipeline.generate(plan)[0].latents.equal(together[0].latents));
}

TEST_F(PipelineTest, Bfloat16StaysNear) {
  const auto exact = load().generate(request_for({"a red ball"}));
  const auto rounded = load(at::kBFloat16).generate(request_for({"a red ball"}));
  EXPECT_LT(distance(rounded[0].latents, exact[0].latents), 0.1);
}

TEST_F(PipelineTest, CancelEndsWithinAStep) {
  Pipeline pipeline = load();
  std::stop_source stop;
  int64_t seen = 0;
  Hooks hooks;
  hooks.cancel = stop.get_token();
  hooks.on_progress = [&](Stage stage, int64_t done, int64_t) {
    if (stage != Stage::denoise) return;
    seen = done;
    if (done == 1) stop.request_stop();
  };
  hooks.on_frames = [](int64_t, const media::Frames&, int64_t) { ADD_FAILURE() << "frames after a cancel"; };
  EXPECT_THROW(pipeline.generate(request_for({"a red ball"}), hooks), CancelledError);
  EXPECT_EQ(seen, 1);
}

TEST_F(PipelineTest, EveryStageIsShownAndLoadingCanBeCancelled) {
  std::vector<Stage> seen;
  std::stop_source stop;
  Hooks hooks;
  hooks.on_progress = [&](Stage stage, int64_t, int64_t) {
    if (seen.empty() || seen.back() != stage) seen.push_back(stage);
  };
  load().generate(request_for({"a red ball"}), hooks);
  EXPECT_EQ(seen,
            (std::vector<Stage>{Stage::load, Stage::encode, Stage::load, Stage::denoise, Stage::load, Stage::decode}));
  hooks.cancel = stop.get_token();
  hooks.on_progress = [&](Stage stage, int64_t, int64_t) {
    EXPECT_EQ(stage, Stage::load);
    stop.request_stop();
  };
  EXPECT_THROW(load().generate(request_for({"a red ball"}), hooks), CancelledError);
}

/// The warnings of `work`.
template <typename Work>
std::vector<std::string> warnings_of(const Work& work) {
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel level, std::string_view line) {
    if (level == LogLevel::warn) lines.emplace_back(line);
  });
  work();
  set_log_sink({});
  return lines;
}

TEST_F(PipelineTest, APromptThatIsCutIsOneWarningThatSaysByHowMuch) {
  Pipeline pipeline = load();
  const std::string longer = "a a a a a a a a a a a a a a a a a a";  // 18 tokens and the end, of 16
  const auto lines = warnings_of([&] { pipeline.generate(request_for({longer, "a ball", longer})); });
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("the last 3 are dropped"), std::string::npos) << lines[0];
}

TEST_F(PipelineTest, APlanThatIsNotWholeIsRefused) {
  Pipeline pipeline = load();
  Plan plan = pipeline.plan(request_for({"a red ball"}));
  plan.scheduler.reset();
  EXPECT_THROW(pipeline.generate(plan), UsageError);
}

TEST_F(PipelineTest, TooLittleMemoryIsRefusedBeforeWork) {
  Request request = request_for({"a red ball"});
  request.memory = 1;
  EXPECT_THROW(load().plan(request), ResourceError);
}

TEST_F(PipelineTest, PartsInSeparateFoldersWork) {
  PipelineOptions options;
  options.paths = {model_->folder / "transformer",
                   {},
                   model_->folder / "vae",
                   model_->folder / "text_encoder",
                   model_->folder / "tokenizer"};
  options.dtype = at::kFloat;
  Pipeline pipeline = Pipeline::load(options);
  Request request = request_for({"a red ball"});
  request.num_frames = 3, request.height = 8, request.width = 8, request.steps = 1;
  EXPECT_EQ(pipeline.generate(request)[0].frames.frames, 3);
  EXPECT_EQ(pipeline.folder().scheduler, "RFLOW");
}

/// The message of loading `model`, checked to be of the class.
template <typename Failure>
std::string refusal(const TestModel& model) {
  try {
    Pipeline::load(options_for(model));
  } catch (const Failure& error) {
    return std::string(error.what()) + " | " + error.hint();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "no error";
}

TEST(PipelineLoad, WrongTensorsAreNamed) {
  TestModel model;
  model.write();
  NamedTensors tensors = test_weights(models::STDiT3(model.transformer).params(), 1);
  const NamedTensors right = tensors;
  std::erase_if(tensors, [](const auto& t) { return t.first == "x_embedder.proj.bias"; });
  save_tensors(model.transformer_file(), tensors);
  EXPECT_NE(refusal<DataError>(model).find("missing (x_embedder.proj.bias)"), std::string::npos)
      << refusal<DataError>(model);

  tensors = right;
  tensors.emplace_back("x_embedder.extra", at::zeros({2}));
  save_tensors(model.transformer_file(), tensors);
  EXPECT_NE(refusal<DataError>(model).find("x_embedder.extra"), std::string::npos) << refusal<DataError>(model);

  tensors = right;
  for (auto& [name, tensor] : tensors) {
    if (name == "t_block.1.bias") tensor = at::zeros({3});
  }
  save_tensors(model.transformer_file(), tensors);
  EXPECT_NE(refusal<DataError>(model).find("t_block.1.bias is [3]"), std::string::npos) << refusal<DataError>(model);
}

TEST(PipelineLoad, WeightsThatAreNotFiniteAreRefused) {
  TestModel model;
  model.write();
  NamedTensors tensors = test_weights(models::STDiT3(model.transformer).params(), 1);
  for (auto& [name, tensor] : tensors) {
    if (name == "t_block.1.bias") tensor.fill_(NAN);
  }
  save_tensors(model.transformer_file(), tensors);
  Pipeline pipeline = Pipeline::load(options_for(model));
  EXPECT_THROW(pipeline.generate(request_for({"a red ball"})), DataError);
}

TEST(PipelineLoad, UnknownClassesListTheKnownOnes) {
  TestModel model;
  model.write();
  model.put("model_index.json", {{"_class_name", "SomethingPipeline"}});
  EXPECT_NE(refusal<UsageError>(model).find("OpenSoraPipeline"), std::string::npos) << refusal<UsageError>(model);
  model.write();
  model.put("scheduler/scheduler_config.json", {{"_class_name", "OtherScheduler"}});
  EXPECT_NE(refusal<UsageError>(model).find("OtherScheduler"), std::string::npos) << refusal<UsageError>(model);
  model.write();
  model.put("transformer/config.json", {{"_class_name", "OtherTransformer"}});
  EXPECT_NE(refusal<UsageError>(model).find("OtherTransformer"), std::string::npos) << refusal<UsageError>(model);
}

TEST(PipelineLoad, SchedulersThatDoNotFitTheModelAreRefused) {
  TestModel model;
  model.write();
  for (const char* other : {"FlowMatchEulerDiscreteScheduler", "DDIMScheduler"}) {
    model.put("scheduler/scheduler_config.json", {{"_class_name", other}});
    EXPECT_NE(refusal<UsageError>(model).find("works with RFLOW"), std::string::npos) << refusal<UsageError>(model);
  }
}

TEST(PipelineLoad, UnknownKeysOfTheSchedulerAreOneWarning) {
  TestModel model;
  model.write();
  model.put("scheduler/scheduler_config.json",
            {{"_class_name", "RFLOW"}, {"use_timestep_transform", false}, {"surprise", 1}});
  Request request = request_for({"a red ball", "blue square", "a ball"});
  request.batch = 1, request.steps = 1;
  const auto lines = warnings_of([&] { Pipeline::load(options_for(model)).generate(request); });
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("surprise"), std::string::npos) << lines[0];
}

TEST(PipelineLoad, AnAutoencoderOfOtherPicturesIsRefused) {
  TestModel model;
  model.vae.spatial.out_channels = 4;
  model.write();
  EXPECT_NE(refusal<DataError>(model).find("RGB"), std::string::npos) << refusal<DataError>(model);
}

TEST(PipelineLoad, AFolderWithoutAModelSaysWhatIsKnown) {
  TestModel model;
  EXPECT_NE(refusal<UsageError>(model).find("OpenSoraPipeline"), std::string::npos) << refusal<UsageError>(model);
}

TEST(PipelineLoad, PicklesNameTheConverter) {
  TestModel model;
  model.write();
  std::filesystem::rename(model.transformer_file(), model.folder / "transformer/pytorch_model.bin");
  EXPECT_NE(refusal<UsageError>(model).find("tools/convert.py"), std::string::npos) << refusal<UsageError>(model);
}

TEST(PipelineLoad, DamagedFilesAreDataErrors) {
  TestModel model;
  model.write();
  std::filesystem::resize_file(model.transformer_file(), std::filesystem::file_size(model.transformer_file()) - 100);
  EXPECT_NE(refusal<DataError>(model).substr(0, 7), "another");
  std::ofstream(model.transformer_file()) << "not a model";
  EXPECT_NE(refusal<DataError>(model).substr(0, 7), "another");
}

TEST(PipelineLoad, PartsOfDifferentModelsAreRefused) {
  TestModel model;
  model.write();
  model.text_encoder.d_model += 4;
  model.write_text_encoder();
  EXPECT_NE(refusal<DataError>(model).find("not of one model"), std::string::npos) << refusal<DataError>(model);
}

}  // namespace
}  // namespace kinora::video
