#include "kinora/train/shapes.h"

#include <gtest/gtest.h>

#include <functional>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/test_folder.h"
#include "kinora/train/run_folder.h"

namespace kinora::train {
namespace {

namespace fs = std::filesystem;

/// A model of a few thousand weights that every stage trains for two steps.
Json tiny() {
  return parse_json(R"({
    "world": {"height": 32, "width": 32, "frames": 5, "fps": 8, "sizes": [{"name": "", "radius_px": [6, 7]}],
              "speed_px": [0.7, 1.0]},
    "vae": {
      "vae_2d": {"block_out_channels": [8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4,
                 "mid_block_add_attention": false},
      "vae_temporal": {"in_out_channels": 4, "latent_embed_dim": 4, "embed_dim": 4, "filters": 8, "num_res_blocks": 1,
                       "channel_multipliers": [1, 1, 2], "temporal_downsample": [true, true], "num_groups": 4},
      "scale": [1, 1, 1, 1], "shift": [0, 0, 0, 0], "spatial_scaling_factor": 1.0, "micro_frame_size": null},
    "transformer": {"hidden_size": 32, "depth": 1, "num_heads": 2, "patch_size": [1, 2, 2], "input_sq_size": 32,
                    "model_max_length": 24},
    "text_encoder": {"model_type": "t5", "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2,
                     "feed_forward_proj": "gated-gelu"},
    "dtype": "float32", "seed": 5,
    "defaults": {"height": 32, "width": 32, "num_frames": 5, "steps": 4, "prompt": "plain"},
    "stages": {"gate": 0, "gate_clips": 1,
               "spatial": {"steps": 2, "batch": 4, "crops_side": 16, "crops_per_clip": 2},
               "temporal": {"steps": 2, "batch": 2, "clips": 20},
               "denoiser": {"steps": 2, "batch": 2, "clips": 20, "seed": 7}}})",
                    {}, "tiny");
}

Json with(const char* pointer, const Json& value) {
  Json json = tiny();
  json[Json::json_pointer(pointer)] = value;
  return json;
}

TEST(ShapesConfig, ReadsTheBuiltInModelsConfig) {
  const auto config = ShapesConfig::from_json(read_json_file("configs/shapes.json"), "shapes.json");
  EXPECT_EQ(config.denoiser.seed, config.seed);
  EXPECT_EQ(config.json["stages"]["denoiser"]["steps"], config.denoiser.steps);
}

TEST(ShapesConfig, SeedOfAStageIsThatOfTheRootUnlessItHasItsOwn) {
  const auto config = ShapesConfig::from_json(tiny(), "tiny");
  EXPECT_EQ(config.seed, 5);
  EXPECT_EQ(config.spatial.seed, 5);
  EXPECT_EQ(config.temporal.seed, 5);
  EXPECT_EQ(config.denoiser.seed, 7);
}

TEST(ShapesConfig, RefusesWhatWouldFailInTheMiddleOfAStage) {
  for (const auto& [pointer, value] : std::vector<std::pair<const char*, Json>>{
           {"/world/height", 33},
           {"/world/width", 34},
           {"/world/shapes", Json::array({"cube"})},
           {"/world/speed_px", Json::array({90, 90})},
           {"/vae/vae_2d/in_channels", 1},
           {"/stages/spatial/crops_side", 15},
           {"/stages/spatial/crops_side", 64},
           {"/stages/spatial/kl", -1},
           {"/stages/spatial/lr", 0},
           {"/stages/temporal/clips", int64_t{1} << 40},
           {"/stages/denoiser/clips", int64_t{1} << 40},
           {"/stages/denoiser/batch", int64_t{1} << 40},
           {"/stages/denoiser/time_std", -1},
           {"/stages/denoiser/picture_batch", 0},
           {"/stages/denoiser/given_every", -1},
           {"/stages/denoiser/pairs", 1.5},
           {"/shift", 0.5},
           {"/stages/gate", 1.5},
           {"/stages/gates", 0.5},
           {"/dtype", "float8"},
       }) {
    EXPECT_THROW(ShapesConfig::from_json(with(pointer, value), "tiny"), DataError) << pointer << " " << value;
  }
}

TEST(ShapesConfig, GivenFramesAreForTransformersThatTakeEachLatentFrameAlone) {
  Json json = with("/stages/denoiser/given_every", 2);
  EXPECT_EQ(ShapesConfig::from_json(json, "tiny").given_every, 2);
  json["transformer"]["patch_size"] = {2, 2, 2};
  EXPECT_THROW(ShapesConfig::from_json(json, "tiny"), DataError);
}

class TrainShapes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_log_sink([](LogLevel, std::string_view) {});
    train_shapes(ShapesConfig::from_json(tiny(), "tiny"), {.folder = home() / "done"});
  }
  static void TearDownTestSuite() { set_log_sink({}); }
  static const TempFolder& home() {
    static const TempFolder folder;
    return folder;
  }
  ~TrainShapes() override { fs::remove_all(folder_); }

  /// A copy of the finished run.
  void begin_with_a_finished_run() { fs::copy(home() / "done", folder_, fs::copy_options::recursive); }
  void train(const Json& json, ShapesOptions options = {}) {
    options.folder = folder_;
    train_shapes(ShapesConfig::from_json(json, "tiny"), options);
  }
  /// The message of the E that is thrown.
  template <typename E>
  std::string refusal(const Json& json, const ShapesOptions& options = {}) {
    try {
      train(json, options);
    } catch (const E& error) {
      return error.what();
    }
    return "not refused";
  }
  const fs::path folder_ = home() / "run";
};

/// Requests a stop once the progress lines hold a word.
class StopAt : public std::stringbuf {
 public:
  explicit StopAt(std::string word) : word_(std::move(word)) {}
  std::stop_token token() const { return stop_.get_token(); }

 protected:
  int sync() override {
    if (str().find(word_) != std::string::npos) stop_.request_stop();
    return 0;
  }

 private:
  std::string word_;
  std::stop_source stop_;
};

TEST_F(TrainShapes, ChangedConfigIsRefusedNamingTheKey) {
  begin_with_a_finished_run();
  EXPECT_NE(refusal<UsageError>(with("/dtype", "bfloat16")).find("\"dtype\""), std::string::npos);
  EXPECT_NE(refusal<UsageError>(with("/world/colours", Json::array({"red"}))).find("\"world.colours\""),
            std::string::npos);
  EXPECT_NE(refusal<UsageError>(with("/vae/vae_temporal/filters", 12)).find("filters"), std::string::npos);
  EXPECT_NE(refusal<UsageError>(with("/stages/spatial/steps", 3)).find("\"stages.spatial.steps\""), std::string::npos);
  EXPECT_EQ(read_json_file(folder_ / "config.json"), tiny());
}

TEST_F(TrainShapes, StageWithoutWeightsMayChangeAndTheModelIsReplacedWhole) {
  begin_with_a_finished_run();
  for (const char* name :
       {"model/transformer/stale", "model.tmp/transformer", "denoiser/.step-9.tmp-1-1.safetensors"}) {
    make_folder((folder_ / name).parent_path());
    write_file(folder_ / name, "");  // of another model; of runs that were killed
  }
  Json longer = with("/stages/denoiser/steps", 3);
  longer["defaults"]["steps"] = 5;
  train(longer);
  EXPECT_TRUE(fs::exists(folder_ / "denoiser/step-3.json"));
  EXPECT_EQ(read_json_file(folder_ / "model/model_index.json")["defaults"]["steps"], 5);
  EXPECT_EQ(read_json_file(folder_ / "config.json"), longer);
  for (const char* name : {"model/transformer/stale", "model.tmp", "denoiser/.step-9.tmp-1-1.safetensors"})
    EXPECT_FALSE(fs::exists(folder_ / name)) << name;
}

TEST_F(TrainShapes, ForeignWeightsInAStagesFolderAreADataError) {
  make_folder(folder_ / "temporal");
  const fs::path file = folder_ / "temporal/weights.safetensors";
  save_tensors(file, {{"w", at::zeros({2})}});
  EXPECT_NE(refusal<DataError>(tiny()).find("weights.safetensors"), std::string::npos);
  auto other = ShapesConfig::from_json(with("/vae/vae_temporal/filters", 12), "other").vae;
  save_tensors(file, {{"w", at::zeros({2})}}, {{"config", other.to_json().dump()}});
  EXPECT_NE(refusal<DataError>(tiny()).find("filters"), std::string::npos);
  other = ShapesConfig::from_json(tiny(), "same").vae;
  save_tensors(file, {{"w", at::zeros({2})}}, {{"config", other.to_json().dump()}});
  EXPECT_NE(refusal<DataError>(tiny()).find("no tensor"), std::string::npos);
}

TEST_F(TrainShapes, WhatIsDamagedOfAnEarlierStageIsMadeAgainToTheSameModel) {
  const fs::path weights = "model/transformer/diffusion_pytorch_model.safetensors";
  const std::string want = read_file(home() / "done" / weights, 1 << 24);
  for (const char* name : {"temporal/weights.safetensors", "latents.safetensors"}) {
    begin_with_a_finished_run();
    std::string bytes = read_file(folder_ / name, 1 << 26);
    bytes.back() ^= '\x10';
    write_file(folder_ / name, bytes);
    train(tiny());
    EXPECT_EQ(read_file(folder_ / weights, 1 << 24), want) << name;
    fs::remove_all(folder_);
  }
}

TEST_F(TrainShapes, SecondRunInAFolderIsRefused) {
  make_folder(folder_);
  const FolderLock other(folder_);
  EXPECT_NE(refusal<UsageError>(tiny()).find(folder_.string()), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_ / "config.json"));
}

TEST_F(TrainShapes, ModelToGoOnFromIsCheckedBeforeAnythingIsWritten) {
  EXPECT_THROW(train(tiny(), {.from = home() / "nowhere"}), UsageError);
  const fs::path from = home() / "done/model";
  EXPECT_THROW(train(with("/vae/vae_temporal/filters", 12), {.from = from}), DataError);
  EXPECT_THROW(train(with("/transformer/hidden_size", 64), {.from = from}), DataError);
  EXPECT_THROW(train(with("/text_encoder/d_ff", 32), {.from = from}), DataError);
  EXPECT_FALSE(fs::exists(folder_));
}

TEST_F(TrainShapes, GoesOnFromAModelAndResumesOnlyFromTheSame) {
  train(tiny(), {.from = home() / "done/model"});
  EXPECT_FALSE(fs::exists(folder_ / "spatial/step-2.json")) << "its autoencoder is kept";
  train(tiny(), {.from = home() / "done/model/"});
  EXPECT_NE(refusal<UsageError>(tiny()).find("_from"), std::string::npos);
}

TEST_F(TrainShapes, CancelEndsTheEncodingOfPictures) {
  StopAt stop("pictures");
  std::ostream progress(&stop);
  EXPECT_THROW(train(tiny(), {.progress = &progress, .cancel = stop.token()}), CancelledError);
  EXPECT_TRUE(fs::exists(folder_ / "spatial/weights.safetensors"));
  const Checkpoint pictures(folder_ / "temporal/pictures.safetensors");
  EXPECT_LT(load_tensor(pictures.require("latents")).size(0), 20) << "the encoding went on";
}

TEST_F(TrainShapes, CancelEndsTheGate) {
  begin_with_a_finished_run();
  const Json missed = with("/stages/gate", 1);
  EXPECT_NE(refusal<DataError>(missed).find("gate"), std::string::npos);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(train(missed, {.cancel = stop.get_token()}), CancelledError);
}

}  // namespace
}  // namespace kinora::train
