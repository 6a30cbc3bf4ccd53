#include "kinora/kinora.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <stdexcept>
#include <thread>

#include "kinora/video/test_adapter.h"

namespace kinora {
namespace {

class Face : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new video::TestModel;
    model_->write();
  }
  static void TearDownTestSuite() { delete model_; }
  static Model model() { return {.folder = model_->folder, .dtype = Dtype::float32}; }
  static Request request(std::vector<std::string> prompts = {"a red ball"}) {
    return {.prompts = std::move(prompts), .seed = 7};
  }
  static video::TestModel* model_;
};
video::TestModel* Face::model_ = nullptr;

TEST_F(Face, MakesAClipOfBytesForEachPrompt) {
  Pipeline pipeline = Pipeline::load(model());
  std::map<Stage, int64_t> last;
  const auto clips = pipeline.generate(request({"a red ball", "a blue square"}),
                                       {.on_progress = [&](Stage stage, int64_t done, int64_t total) {
                                         EXPECT_LE(done, total) << stage_name(stage);
                                         last[stage] = total;
                                       }});
  ASSERT_EQ(clips.size(), 2u);
  for (const Clip& clip : clips) {
    EXPECT_NO_THROW(media::check(clip.frames));
    EXPECT_EQ(clip.frames.frames, 9);
    EXPECT_EQ(clip.frames.width, 24);
    EXPECT_EQ(clip.latents.shape[0], model_->transformer.in_channels);
    const auto [c, t, h, w] = clip.latents.shape;
    EXPECT_EQ(clip.latents.values.size(), static_cast<size_t>(c * t * h * w));
  }
  EXPECT_EQ(clips[1].metadata.prompt, "a blue square");
  EXPECT_EQ(clips[1].metadata.seed, std::optional<uint64_t>(8));
  EXPECT_EQ(last[Stage::decode], 18);
  EXPECT_EQ(last[Stage::denoise], 3);
}

TEST_F(Face, PlansWhatItMakes) {
  Pipeline pipeline = Pipeline::load(model());
  Request asked = request();
  asked.num_frames = 5, asked.height = 17, asked.width = 31, asked.steps = 2, asked.loops = 2;
  const Plan plan = pipeline.plan(asked);
  const Clip clip = pipeline.generate(asked).at(0);
  EXPECT_EQ(plan.clips, 1);
  EXPECT_EQ(plan.frames, clip.frames.frames);
  EXPECT_EQ(plan.height, clip.frames.height);
  EXPECT_EQ(plan.width, clip.frames.width);
  EXPECT_EQ(plan.fps, clip.frames.fps);
  EXPECT_EQ(plan.seed, 7u);
  EXPECT_EQ(plan.steps, 2);
  EXPECT_GT(plan.peak_bytes, 0u);
  asked.memory_bytes = 1;
  EXPECT_THROW(pipeline.plan(asked), ResourceError);
}

TEST_F(Face, EveryOptionReachesTheEngine) {
  Pipeline pipeline = Pipeline::load(model());
  const auto latents = [&](const Request& asked) { return pipeline.generate(asked).at(0).latents.values; };
  const auto base = latents(request());
  EXPECT_EQ(latents(request()), base);
  const auto changed = [&](const char* what, auto change) {
    Request asked = request();
    change(asked);
    EXPECT_NE(latents(asked), base) << what;
  };
  changed("negative prompt", [](Request& r) { r.negative_prompt = "a blue square"; });
  changed("steps", [](Request& r) { r.steps = 2; });
  changed("guidance", [](Request& r) { r.guidance_scale = 1.5; });
  changed("cache", [](Request& r) { r.cache = "pab:window=0..1000"; });
  changed("seed", [](Request& r) { r.seed = 8; });
  changed("fps", [](Request& r) { r.fps = 30; });
  changed("height", [](Request& r) { r.height = 24; });
  changed("width", [](Request& r) { r.width = 16; });
  changed("frames", [](Request& r) { r.num_frames = 5; });
  changed("loops", [](Request& r) { r.loops = 2; });
  changed("seamless", [](Request& r) { r.seamless = true; });
  changed("a reference", [](Request& r) { r.references = {media::make_frames(1, 16, 24)}; });
  changed("a mask strategy", [](Request& r) {
    r.references = {media::make_frames(9, 16, 24)};
    r.mask_strategy = "0,0,0,0,2,0.3";
  });
  changed("a clip before", [](Request& r) { r.before = media::make_frames(9, 16, 24, 8); });
  changed("a clip after", [](Request& r) { r.after = media::make_frames(9, 16, 24, 8); });

  const auto refused = [&](const char* what, auto change) {
    Request asked = request();
    change(asked);
    EXPECT_THROW(pipeline.generate(asked), UsageError) << what;
  };
  refused("no prompt", [](Request& r) { r.prompts.clear(); });
  refused("a budget for no cache", [](Request& r) { r.cache_memory_bytes = 1000; });
  refused("a budget of a byte", [](Request& r) { r.cache = "pab:window=0..1000", r.cache_memory_bytes = 1; });
  refused("a chunk that is none", [](Request& r) { r.chunk = "always"; });
  refused("no resolution", [](Request& r) { r.resolution = "481p"; });
  refused("scores of a plain model", [](Request& r) { r.motion_score = 3; });
  refused("a camera of a plain model", [](Request& r) { r.camera_motion = "pan left"; });
  refused("frames that are not there", [](Request& r) { r.references = {{.frames = 2, .height = 16, .width = 24}}; });
  refused("nothing to condition on", [](Request& r) { r.condition_frames = 2; });
  refused("an edit that keeps nothing", [](Request& r) { r.loops = 2, r.condition_edit = 1; });
}

TEST_F(Face, FramesCanBeTakenAsTheyCome) {
  Pipeline pipeline = Pipeline::load(model());
  const Clip whole = pipeline.generate(request()).at(0);
  std::vector<uint8_t> taken;
  int previews = 0;
  Hooks hooks;
  hooks.on_frames = [&](int64_t index, media::Frames frames, int64_t first) {
    EXPECT_EQ(index, 0);
    EXPECT_EQ(first * frames.frame_bytes(), static_cast<int64_t>(taken.size()));
    taken.insert(taken.end(), frames.rgb.begin(), frames.rgb.end());
  };
  hooks.preview_every = 1;
  hooks.on_preview = [&](const std::vector<media::Frames>& clips, int64_t, int, int calls) {
    EXPECT_EQ(clips.size(), 1u);
    EXPECT_EQ(calls, 3);
    ++previews;
  };
  const Clip streamed = pipeline.generate(request(), hooks).at(0);
  EXPECT_EQ(taken, whole.frames.rgb);
  EXPECT_TRUE(streamed.frames.rgb.empty());
  EXPECT_EQ(streamed.latents.values, whole.latents.values);
  EXPECT_GT(previews, 0);
}

TEST_F(Face, AStopTokenEndsTheWorkAndThePipelineStaysUsable) {
  Pipeline pipeline = Pipeline::load(model());
  std::stop_source stop;
  int64_t seen = 0;
  const auto on_progress = [&](Stage stage, int64_t done, int64_t) {
    if (stage == Stage::denoise && done == 1) stop.request_stop();
    if (stage == Stage::denoise) seen = done;
  };
  EXPECT_THROW(pipeline.generate(request(), {.on_progress = on_progress, .cancel = stop.get_token()}), CancelledError);
  EXPECT_EQ(seen, 1);
  EXPECT_EQ(pipeline.generate(request()).size(), 1u);
}

TEST_F(Face, PipelinesWorkSideBySide) {
  const std::vector<float> alone = Pipeline::load(model()).generate(request()).at(0).latents.values;
  std::array<std::vector<float>, 3> made;
  {
    std::vector<std::jthread> threads;
    for (auto& values : made)
      threads.emplace_back([&] { values = Pipeline::load(model()).generate(request()).at(0).latents.values; });
  }
  for (const auto& values : made) EXPECT_EQ(values, alone);
}

TEST_F(Face, ExceptionsOfCallbacksPassThrough) {
  Pipeline pipeline = Pipeline::load(model());
  EXPECT_THROW(
      pipeline.generate(request(), {.on_progress = [](Stage, int64_t, int64_t) { throw std::out_of_range("mine"); }}),
      std::out_of_range);
}

TEST_F(Face, AJobThatWasEndedGoesOnAndIsDecoded) {
  Pipeline pipeline = Pipeline::load(model());
  TempFolder folder;
  Request asked = request();
  const Clip whole = pipeline.generate(asked).at(0);
  asked.job = folder.path() / "a.job";
  asked.keeps_job = true;
  EXPECT_EQ(pipeline.generate(asked).at(0).frames.rgb, whole.frames.rgb);
  EXPECT_EQ(pipeline.decode(asked.job).at(0).frames.rgb, whole.frames.rgb);

  // Denoised already: only decoded, with the job's seed where none is given.
  asked.seed.reset();
  asked.keeps_job = false;
  int64_t first = -1;
  const auto on_progress = [&](Stage stage, int64_t, int64_t) {
    first = first < 0 ? static_cast<int64_t>(stage) : first;
  };
  EXPECT_EQ(pipeline.generate(asked, {.on_progress = on_progress}).at(0).frames.rgb, whole.frames.rgb);
  EXPECT_FALSE(std::filesystem::exists(asked.job));
  EXPECT_THROW(pipeline.decode(asked.job), UsageError);

  asked.keeps_job = true;
  asked.seed = 7;
  pipeline.generate(asked);
  asked.seed = 9;
  EXPECT_THROW(pipeline.generate(asked), UsageError);
}

TEST_F(Face, AdaptersReachTheEngine) {
  const std::filesystem::path file = model_->folder / "style.safetensors";
  const models::STDiT3 transformer(model_->transformer);
  save_tensors(file, video::adapter_for(transformer.params(), "spatial_blocks.", 4, 1));
  const auto clip = [&](std::vector<Adapter> adapters) {
    Model adapted = model();
    adapted.adapters = std::move(adapters);
    return Pipeline::load(adapted).generate(request()).at(0);
  };
  const auto plain = clip({}).latents.values;
  EXPECT_NE(clip({{file}}).latents.values, plain);
  EXPECT_EQ(clip({{file, 0}}).latents.values, plain);
  EXPECT_NE(clip({{file, 0.5}}).metadata.settings.find("style.safetensors"), std::string::npos);
  EXPECT_THROW(clip({{model_->folder / "none"}}), UsageError);
}

TEST_F(Face, MatricesCanBeBytes) {
  const auto of = [&](const char* quantize) {
    Model bytes = model();
    bytes.quantize = quantize;
    return Pipeline::load(bytes);
  };
  EXPECT_NE(of("int8").generate(request()).at(0).latents.values, of("none").generate(request()).at(0).latents.values);
  EXPECT_LT(of("fp8").plan(request()).peak_bytes, of("none").plan(request()).peak_bytes);
  EXPECT_THROW(of("int4"), UsageError);
}

TEST_F(Face, ModelsThatAreNotThereAreRefused) {
  EXPECT_THROW(Pipeline::load({.folder = model_->folder / "none"}), UsageError);
  EXPECT_THROW(Pipeline::load({.folder = model_->folder, .device = "gpu"}), UsageError);
  EXPECT_THROW(Pipeline::load({.folder = model_->folder, .dtype = static_cast<Dtype>(9)}), UsageError);
  EXPECT_THROW(Pipeline::load({.folder = model_->folder, .offload = "disk"}), UsageError);
  EXPECT_NO_THROW(Pipeline::load({.folder = model_->folder, .offload = "stream:1"}));
  ::unsetenv("KINORA_MODEL");
  EXPECT_THROW(Pipeline::load(), UsageError);  // nothing is installed beside this test
  ::setenv("KINORA_MODEL", model_->folder.c_str(), 1);
  EXPECT_NO_THROW(Pipeline::load());
  ::unsetenv("KINORA_MODEL");
}

TEST(FaceOfTheProcess, ThreadsAndVersion) {
  EXPECT_THROW(set_num_threads(0), UsageError);
  EXPECT_THROW(set_num_threads(1025), UsageError);
  EXPECT_NO_THROW(set_num_threads(1));
  EXPECT_STREQ(version(), KINORA_VERSION);
  EXPECT_STREQ(stage_name(Stage::condition), "condition");
}

}  // namespace
}  // namespace kinora
