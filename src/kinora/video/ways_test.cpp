// The ways to make a clip besides a prompt alone: from pictures, from other clips, in loops, and from a job.
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/media/png.h"
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/nn/load.h"
#include "kinora/video/pipeline.h"
#include "kinora/video/test_model.h"

namespace kinora::video {
namespace {

/// Frames of one grey each, which differ.
ReferencePtr greys(int64_t frames, int64_t height = 16, int64_t width = 24, const std::string& name = "greys") {
  auto clip = std::make_shared<Reference>(Reference{name, media::make_frames(frames, height, width, 8)});
  for (int64_t i = 0; i < frames; ++i)
    std::fill_n(clip->frames.frame(i), clip->frames.frame_bytes(), static_cast<uint8_t>(40 + 20 * i));
  return clip;
}

class WaysTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TestModel;
    model_->write();
  }
  static void TearDownTestSuite() { delete model_; }
  /// 9 frames of 16x24, 3 steps; the autoencoder takes 6 frames at a time, 2 for a latent frame: [2, 2, 2, 1, 2].
  Pipeline pipeline_ = [] {
    PipelineOptions options;
    options.paths.model = model_->folder;
    options.dtype = at::kFloat;
    return Pipeline::load(options);
  }();
  static Request red_ball() {
    Request request;
    request.prompts = {"a red ball"};
    request.seed = 5;
    return request;
  }
  Clip make(const Request& request) { return pipeline_.generate(request)[0]; }
  static TestModel* model_;
};
TestModel* WaysTest::model_ = nullptr;

bool same_frames(const media::Frames& a, int64_t a_first, const media::Frames& b, int64_t b_first, int64_t count) {
  return std::equal(a.frame(a_first), a.frame(a_first) + count * a.frame_bytes(), b.frame(b_first));
}

TEST_F(WaysTest, APictureIsTheFirstLatentFrame) {
  Request request = red_ball();
  request.references = {greys(1, 30, 20)};
  const Clip clip = make(request);
  EXPECT_EQ(clip.frames.frames, 9);
  const Clip free = make(red_ball());
  EXPECT_FALSE(clip.latents.equal(free.latents));
  // It stays what it was given, whatever the noise.
  request.seed = 6;
  const at::Tensor other = make(request).latents;
  EXPECT_TRUE(other.narrow(1, 0, 1).equal(clip.latents.narrow(1, 0, 1)));
  EXPECT_FALSE(other.narrow(1, 1, 4).equal(clip.latents.narrow(1, 1, 4)));
  EXPECT_NE(clip.metadata.settings.find("crc32"), std::string::npos);
}

TEST_F(WaysTest, GivenLatentsAreThoseOfTheAutoencoder) {
  Request request = red_ball();
  const ReferencePtr clip = greys(9);
  request.references = {clip};
  request.mask_strategy = "0,0,0,0,5,0";
  const Clip made = make(request);
  const models::VideoVae vae(model_->vae);
  ResidentWeights weights = load_weights(vae.params(), Checkpoint(model_->folder / "vae"), {});
  kinora::Run run;
  run.weights = &weights;
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::allclose(made.latents, vae.encode(run, media::to_tensor(clip->frames).unsqueeze(0))[0], 1e-4, 1e-5));
}

TEST_F(WaysTest, EditRatiosMoveWhatIsGiven) {
  Request request = red_ball();
  request.references = {greys(9)};
  std::vector<at::Tensor> made;
  for (const char* ratio : {"0", "0.4", "0.9"}) {
    request.mask_strategy = std::string("0,0,0,0,5,") + ratio;
    made.push_back(make(request).latents);
  }
  EXPECT_FALSE(made[0].equal(made[1]));
  EXPECT_FALSE(made[1].equal(made[2]));
}

TEST_F(WaysTest, ThePromptsSuffixNamesReferences) {
  const TempFolder folder;
  const std::string picture = (folder / "a.png").string();
  media::write_png(picture, greys(1)->frames);
  Request request = red_ball();
  request.references = {greys(2)};
  request.prompts = {"a red ball {\"reference_path\": \"" + picture + "\", \"mask_strategy\": \"0,1,0,2,1,0.3\"}",
                     "a ball"};
  const Plan plan = make_plan(request, {});
  ASSERT_EQ(plan.given[0].references.size(), 2u);  // those of the request come first
  EXPECT_EQ(plan.given[0].references[1]->frames.rgb, greys(1)->frames.rgb);
  EXPECT_EQ(plan.given[0].strategy[0].edit_ratio, 0.3);
  EXPECT_EQ(plan.given[1].references.size(), 1u);
  EXPECT_EQ(plan.texts[0].at(0).substr(0, 10), "a red ball");
}

TEST_F(WaysTest, LoopsGoOnFromTheFramesBefore) {
  Request request = red_ball();
  request.loops = 3;
  const Plan plan = pipeline_.plan(request);
  EXPECT_EQ(plan.head, (Span{4, 2}));
  const Clip clip = pipeline_.generate(plan)[0];
  EXPECT_EQ(clip.frames.frames, 9 + 5 + 5);
  EXPECT_EQ(clip.latents.size(1), 15);
  const Clip once = make(red_ball());
  EXPECT_TRUE(same_frames(clip.frames, 0, once.frames, 0, 9));
  EXPECT_EQ(clip.metadata.frames, 19);
}

TEST_F(WaysTest, ALoopsConditionIsTheEndOfTheLoopBefore) {
  Request request = red_ball();
  request.loops = 2;
  const Clip clip = make(request);
  const models::VideoVae vae(model_->vae);
  ResidentWeights weights = load_weights(vae.params(), Checkpoint(model_->folder / "vae"), {});
  kinora::Run run;
  run.weights = &weights;
  const at::NoGradGuard no_grad;
  const at::Tensor pixels = vae.decode(run, clip.latents.narrow(1, 0, 5).unsqueeze(0), 9);
  const at::Tensor end = vae.encode(run, pixels.narrow(2, 5, 4).contiguous())[0];
  EXPECT_TRUE(at::allclose(clip.latents.narrow(1, 5, 2), end, 1e-3, 1e-4));
}

TEST_F(WaysTest, AnExtendedClipBeginsWithTheClip) {
  Request request = red_ball();
  request.before = greys(7);
  const Clip clip = make(request);
  EXPECT_EQ(clip.frames.frames, 7 + 5);
  EXPECT_TRUE(same_frames(clip.frames, 0, request.before->frames, 0, 7));
  request.before = greys(3);
  EXPECT_THROW(pipeline_.plan(request), UsageError);  // four frames are gone on from
  request.condition_frames = 3;
  EXPECT_EQ(pipeline_.plan(request).head, (Span{2, 1}));
  EXPECT_EQ(make(request).frames.frames, 3 + 7);
}

TEST_F(WaysTest, JoinedClipsStandAtBothEnds) {
  Request request = red_ball();
  request.before = greys(6, 16, 24, "a"), request.after = greys(5, 16, 24, "b");
  const Plan plan = pipeline_.plan(request);
  EXPECT_EQ(plan.head, (Span{2, 1}));
  EXPECT_EQ(plan.tail, (Span{3, 2}));
  const Clip clip = pipeline_.generate(plan)[0];
  EXPECT_EQ(clip.frames.frames, 6 + 4 + 5);
  EXPECT_TRUE(same_frames(clip.frames, 0, request.before->frames, 0, 6));
  EXPECT_TRUE(same_frames(clip.frames, 10, request.after->frames, 0, 5));
  request.after = greys(2);
  EXPECT_THROW(pipeline_.plan(request), UsageError);
}

TEST_F(WaysTest, TheEndIsEncodedInItsChunkBehindFramesThatStandStill) {
  Request request = red_ball();
  request.after = greys(7), request.condition_frames = 6;
  const Plan plan = pipeline_.plan(request);
  EXPECT_EQ(plan.tail, (Span{5, 3}));  // across the chunks of 6 and 3 frames
  const Clip clip = pipeline_.generate(plan)[0];
  EXPECT_EQ(clip.frames.frames, 4 + 7);
  const models::VideoVae vae(model_->vae);
  ResidentWeights weights = load_weights(vae.params(), Checkpoint(model_->folder / "vae"), {});
  kinora::Run run;
  run.weights = &weights;
  const at::NoGradGuard no_grad;
  const at::Tensor pixels = media::to_tensor(request.after->frames).unsqueeze(0).narrow(2, 0, 5);
  const at::Tensor whole = at::cat({pixels.narrow(2, 0, 1).expand({-1, -1, 4, -1, -1}), pixels}, 2);
  EXPECT_TRUE(at::allclose(clip.latents.narrow(1, 2, 3), vae.encode(run, whole)[0].narrow(1, 2, 3), 1e-4, 1e-5));
}

TEST_F(WaysTest, ASeamlessClipLeadsBackToItsBeginning) {
  Request request = red_ball();
  request.seamless = true;
  const Clip clip = make(request);
  EXPECT_EQ(clip.frames.frames, 9 + (9 - 2 - 3));
  EXPECT_EQ(clip.latents.size(1), 10);
  EXPECT_TRUE(same_frames(clip.frames, 0, make(red_ball()).frames, 0, 9));
}

TEST_F(WaysTest, ConditionsThatLeaveNothingNewAreUsageErrors) {
  Request request = red_ball();
  request.loops = 2, request.condition_frames = 9;
  EXPECT_THROW(pipeline_.plan(request), UsageError);
  request.condition_frames = 1;  // less than a latent frame
  EXPECT_THROW(pipeline_.plan(request), UsageError);
  request = red_ball();
  request.condition_frames = 4;  // of nothing
  EXPECT_THROW(pipeline_.plan(request), UsageError);
  request = red_ball();
  request.num_frames = 1, request.loops = 2;
  EXPECT_THROW(pipeline_.plan(request), UsageError);
  request = red_ball();
  request.references = {greys(1, 1, 400)};
  EXPECT_THROW(pipeline_.plan(request), UsageError);  // a strip, of which nearly all would be cut
}

TEST_F(WaysTest, OnePartAtATimeGivesTheSameLongClip) {
  Request request = red_ball();
  request.loops = 2, request.seamless = true, request.references = {greys(1)};
  Plan plan = pipeline_.plan(request);
  const Clip together = pipeline_.generate(plan)[0];
  plan.one_by_one = true;
  EXPECT_EQ(pipeline_.generate(plan)[0].frames.rgb, together.frames.rgb);
}

TEST_F(WaysTest, AClipWithConditionsDoesNotDependOnItsBatch) {
  Request request = red_ball();
  request.prompts = {"a red ball", "blue square", "a ball"};
  request.loops = 2, request.batch = 2;
  const auto all = pipeline_.generate(request);
  for (uint64_t i = 0; i < 3; ++i) {
    Request one = red_ball();
    one.prompts = {request.prompts[i]}, one.loops = 2, one.seed = 5 + i;
    const at::Tensor want = make(one).latents;
    EXPECT_LT(((all[i].latents - want).norm() / want.norm()).item<double>(), 1e-5) << i;
  }
}

/// A run with every kind of state: two groups, two passes, frames that join late.
Request long_request() {
  Request request;
  request.prompts = {"a red ball", "blue square", "a ball"};
  request.seed = 11, request.batch = 2, request.loops = 2, request.condition_edit = 0.5;
  return request;
}

TEST_F(WaysTest, AJobThatGoesOnFromAnyStepGivesTheSameBytes) {
  const TempFolder folder;
  const Plan plan = pipeline_.plan(long_request());
  int steps = 0;
  Hooks count;
  count.on_job = [&](const Job&) { ++steps; };
  const auto whole = pipeline_.generate(plan, count);
  EXPECT_EQ(steps, 2 * 2 * 3 + 1);
  for (int k = 1; k <= steps; ++k) {
    std::stop_source stop;
    Hooks cut;
    int seen = 0;
    cut.cancel = stop.get_token();
    cut.on_job = [&](const Job& job) {
      if (++seen < k) return;
      if (seen == k) write_job(folder / "x.job", job);
      stop.request_stop();
    };
    EXPECT_THROW(pipeline_.generate(plan, cut), CancelledError) << k;
    int again = 0;
    Hooks rest;
    rest.on_job = [&](const Job&) { ++again; };
    const auto resumed = pipeline_.generate(plan, rest, read_job(folder / "x.job"));
    EXPECT_EQ(again, k == steps ? 0 : steps - k);
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(resumed[i].frames.rgb, whole[i].frames.rgb) << k << " " << i;
  }
}

TEST_F(WaysTest, OtherSettingsThanTheJobsAreRefused) {
  Job kept;
  Hooks hooks;
  hooks.on_job = [&](const Job& job) {
    if (job.state.trajectory.call == 1) kept = job;
  };
  const Request request = red_ball();
  pipeline_.generate(request, hooks);
  const auto says = [&](const Request& other) -> std::string {
    try {
      pipeline_.generate(pipeline_.plan(other), {}, kept);
    } catch (const UsageError& error) {
      return error.what();
    }
    return {};
  };
  EXPECT_EQ(says(request), "");
  Request other = request;
  other.steps = 4;
  EXPECT_NE(says(other).find("steps"), std::string::npos);
  other = request;
  other.references = {greys(1)};
  EXPECT_NE(says(other).find("given"), std::string::npos);
  other = request;
  other.seed = 6;
  EXPECT_NE(says(other).find("seed"), std::string::npos);
}

TEST_F(WaysTest, LatentsAreDecodedWithoutDenoising) {
  const TempFolder folder;
  media::write_png(folder / "a.png", greys(1)->frames);
  Request request = red_ball();
  request.num_frames = 7, request.loops = 2, request.condition_frames = 2;
  request.before = load_reference(folder / "a.png");
  EXPECT_THROW(pipeline_.plan(request), UsageError);  // one frame, and two are wanted
  auto two = std::make_shared<Reference>(Reference{(folder / "clip").string(), greys(2)->frames});
  std::filesystem::create_directory(folder / "clip");
  media::write_png(folder / "clip" / "0.png", two->frames, 0);
  media::write_png(folder / "clip" / "1.png", two->frames, 1);
  request.before = two;
  Hooks hooks;
  hooks.on_job = [&](const Job& job) {
    if (job.is_denoised) write_job(folder / "x.job", job);
  };
  const Clip whole = pipeline_.generate(request, hooks)[0];
  std::vector<Stage> seen;
  Hooks watch;
  watch.on_progress = [&](Stage stage, int64_t, int64_t) { seen.push_back(stage); };
  const Job job = read_job(folder / "x.job");
  const Clip again = pipeline_.generate(pipeline_.plan(job), watch, job)[0];
  EXPECT_EQ(again.frames.rgb, whole.frames.rgb);
  EXPECT_EQ(again.metadata.settings, whole.metadata.settings);
  EXPECT_EQ(again.metadata.seed, whole.metadata.seed);
  EXPECT_EQ(std::count(seen.begin(), seen.end(), Stage::denoise), 0);
  media::write_png(folder / "clip" / "1.png", greys(1)->frames);
  EXPECT_THROW(pipeline_.plan(job), UsageError);  // no longer the clip that it was
}

TEST_F(WaysTest, LatentsOfAnotherModelOrHalfDoneAreDataErrors) {
  Job kept, first;
  Hooks hooks;
  hooks.on_job = [&](const Job& job) { (job.is_denoised ? kept : first) = job; };
  pipeline_.generate(red_ball(), hooks);
  EXPECT_THROW(pipeline_.plan(first), DataError);
  EXPECT_NO_THROW(pipeline_.plan(kept));
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{3, 5, 8, 12}, {4, 4, 8, 12}, {4, 10, 8, 12}, {4, 5, 8, 11}}) {
    Job other = kept;
    other.latents[0] = at::zeros(shape);
    EXPECT_THROW(pipeline_.plan(other), DataError);
  }
  Job other = kept;
  other.settings["weights"]["vae"] = 1;
  int warnings = 0;
  set_log_sink([&](LogLevel level, std::string_view) { warnings += level == LogLevel::warn; });
  pipeline_.plan(other);
  set_log_sink({});
  EXPECT_EQ(warnings, 1);
  other = kept;
  other.settings.erase("fps");
  EXPECT_THROW(pipeline_.plan(other), DataError);
  other = kept;
  other.settings["seed"] = "five";
  EXPECT_THROW(pipeline_.plan(other), DataError);
}

TEST_F(WaysTest, JobsThatDoNotFitTogetherAreDataErrors) {
  Job kept;
  Hooks hooks;
  hooks.on_job = [&](const Job& job) {
    if (job.state.trajectory.call == 1) kept = job;
  };
  const Plan plan = pipeline_.plan(red_ball());
  pipeline_.generate(plan, hooks);
  const auto refused = [&](const auto& change) {
    Job job = kept;
    change(job);
    EXPECT_THROW(pipeline_.generate(plan, {}, job), DataError);
  };
  EXPECT_NO_THROW(pipeline_.generate(plan, {}, kept));
  refused([](Job& job) { job.generators.clear(); });
  refused([](Job& job) { job.generators[0] = at::zeros({5}, at::kByte); });
  refused([](Job& job) { job.generators[0] = at::full_like(job.generators[0], 255); });
  refused([](Job& job) { job.state.latents = job.state.latents.repeat({2, 1, 1, 1, 1}); });
  refused([](Job& job) { job.pass = 1; });
  refused([](Job& job) { job.latents.resize(2); });
  refused([](Job& job) { job.latents[0] = at::zeros({4, 5, 8, 12}); });  // done, and in the making
}

TEST_F(WaysTest, PreviewsShowEveryClipOfAGroupAndChangeNothing) {
  Request request = red_ball();
  request.prompts = {"a red ball", "blue square"};
  const auto plain = pipeline_.generate(request);
  Hooks hooks;
  hooks.preview_every = 2;
  std::vector<int> seen;
  hooks.on_preview = [&](const std::vector<media::Frames>& clips, int64_t first, int done, int calls) {
    seen.push_back(done);
    EXPECT_EQ(calls, 3);
    EXPECT_EQ(first, 0);
    ASSERT_EQ(clips.size(), 2u);
    EXPECT_EQ(clips[1].frames, 4);
    EXPECT_EQ(clips[1].height, 16);
  };
  const auto shown = pipeline_.generate(request, hooks);
  EXPECT_EQ(seen, (std::vector<int>{2}));
  EXPECT_TRUE(shown[1].latents.equal(plain[1].latents));
}

}  // namespace
}  // namespace kinora::video
