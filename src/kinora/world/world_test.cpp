#include "kinora/world/world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <set>

#include "kinora/world/paint.h"
#include "kinora/world/random.h"

namespace kinora::world {
namespace {

TEST(World, FramesAreCheckedBeforeTheyAreMade) {
  EXPECT_THROW(media::make_frames(0, 3, 5), UsageError);
  EXPECT_THROW(media::make_frames(1, 70000, 5), UsageError);
  EXPECT_THROW(media::make_frames(1, 3, 5, 0.0), UsageError);
  media::Frames clip = media::make_frames(2, 3, 5);
  EXPECT_NO_THROW(media::check(clip));
  clip.rgb.pop_back();
  EXPECT_THROW(media::check(clip), UsageError);
}

TEST(World, HeldOutCombinationsAreAFixedEvenChoice) {
  const WorldConfig config;
  const auto kept = held_out(config);
  ASSERT_EQ(kept.size(), 6u);
  std::set<std::string> colours, motions, shapes, pairs;
  for (const auto& c : kept) {
    shapes.insert(c.shape), colours.insert(c.colour), motions.insert(c.motion);
    pairs.insert({c.shape + c.colour, c.shape + c.motion, c.colour + c.motion});
  }
  EXPECT_EQ(shapes.size(), 3u);
  EXPECT_EQ(colours.size(), 4u);
  EXPECT_EQ(motions.size(), 4u);
  EXPECT_EQ(pairs.size(), 18u) << "a pair of values is held out more than once";
  WorldConfig turned = config;
  std::reverse(turned.colours.begin(), turned.colours.end());
  EXPECT_EQ(held_out(turned), kept) << "the choice depends on the order of the names";
}

TEST(World, TrainingNeverDrawsAHeldOutCombinationAndCoversAllOthers) {
  const WorldConfig config;
  std::set<std::string> train, other, any;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    for (const auto& [split, into] :
         {std::pair(Split::train, &train), std::pair(Split::held_out, &other), std::pair(Split::any, &any)}) {
      const Scene s = draw(config, seed, split);
      into->insert(s.shape + "/" + s.colour + "/" + s.motion);
      if (split != Split::any) {
        ASSERT_EQ(is_held_out(config, s), split == Split::held_out);
      }
    }
  }
  EXPECT_EQ(train.size(), 42u);
  EXPECT_EQ(other.size(), 6u);
  EXPECT_EQ(any.size(), 48u);
}

TEST(World, ASampleDependsOnSeedAndIndexOnly) {
  const WorldConfig config;
  const Sample first = sample(config, 7, 41, Split::train);
  sample(config, 7, 3, Split::train);
  const Sample again = sample(config, 7, 41, Split::train);
  EXPECT_EQ(first.scene, again.scene);
  EXPECT_EQ(first.caption, again.caption);
  EXPECT_EQ(first.clip.rgb, again.clip.rgb);
  EXPECT_FALSE(first.scene == sample(config, 7, 42, Split::train).scene);
  EXPECT_FALSE(first.scene == sample(config, 8, 41, Split::train).scene);
}

TEST(World, RandomNumbersAreUniform) {
  Random random(join(1, 2));
  int bins[7] = {};
  for (int i = 0; i < 7000; ++i) ++bins[random.below(7)];
  for (const int n : bins) EXPECT_NEAR(n, 1000, 120);
}

TEST(World, EveryCombinationStandsOnce) {
  const WorldConfig config;
  EXPECT_EQ(every_combination(config, Split::any).size(), 96u);
  EXPECT_EQ(every_combination(config, Split::train).size(), 84u);
  EXPECT_EQ(every_combination(config, Split::held_out).size(), 12u);
}

TEST(World, TheWholeObjectStaysInThePictureInEveryFrame) {
  const WorldConfig config;
  for (const Scene& scene : every_combination(config, Split::any, 5)) {
    const media::Frames clip = render(config, scene);
    const auto empty = paint_background(background_row(scene.background), config.height, config.width);
    for (int64_t f = 0; f < clip.frames; ++f) {
      for (int64_t i = 0; i < 64; ++i) {
        for (const int64_t p : {i, 63 * 64 + i, i * 64, i * 64 + 63}) {
          for (int64_t c = 0; c < 3; ++c) ASSERT_EQ(clip.frame(f)[p * 3 + c], empty[static_cast<size_t>(p * 3 + c)]);
        }
      }
      ASSERT_FALSE(std::equal(empty.begin(), empty.end(), clip.frame(f)));
    }
  }
}

TEST(World, EdgesAreAntiAliased) {
  const WorldConfig config;
  std::vector<uint8_t> picture(64 * 64 * 3, 255);
  paint_figure({&shape_row("square"), {255, 255, 255}, 32.0, 32.0, 12.5 / 0.86}, 0.0, picture.data(), 64, 64);
  EXPECT_EQ(picture, std::vector<uint8_t>(picture.size(), 255)) << "an edge darkens what has one colour";
  paint_figure({&shape_row("square"), {0, 0, 0}, 32.0, 32.0, 12.5 / 0.86}, 0.0, picture.data(), 64, 64);
  EXPECT_EQ(picture[(32 * 64 + 44) * 3], 128);  // half a pixel is covered
  EXPECT_EQ(picture[(32 * 64 + 45) * 3], 255);
  EXPECT_EQ(picture[(32 * 64 + 43) * 3], 0);
}

TEST(World, AConfigSurvivesJson) {
  WorldConfig config;
  config.frames = 9;
  config.sizes = {{"small", 7.0, 8.0}, {"large", 12.0, 14.0}};
  config.shapes = {"triangle", "ball"};
  const WorldConfig back = world_config(nlohmann::json::parse(to_json(config).dump()));
  EXPECT_EQ(to_json(back), to_json(config));
  EXPECT_EQ(to_json(world_config(nlohmann::json::object())), to_json(WorldConfig{}));
}

TEST(World, BadConfigsAreRefused) {
  const auto read = [](const char* text) { return world_config(nlohmann::json::parse(text)); };
  EXPECT_THROW(read("[]"), DataError);
  EXPECT_THROW(read(R"({"heigth": 64})"), DataError);
  EXPECT_THROW(read(R"({"height": "x"})"), DataError);
  EXPECT_THROW(read(R"({"speed_px": [1]})"), DataError);
  EXPECT_THROW(read(R"({"sizes": [{"name": "big"}]})"), DataError);
  EXPECT_THROW(read(R"({"speed_px": [2, 1]})"), UsageError);
  EXPECT_THROW(read(R"({"shapes": ["cat"]})"), UsageError);
  EXPECT_THROW(read(R"({"colours": ["red", "red"]})"), UsageError);
  EXPECT_THROW(read(R"({"motions": []})"), UsageError);
  EXPECT_THROW(read(R"({"backgrounds": ["moon"]})"), UsageError);
  EXPECT_THROW(read(R"({"sizes": []})"), UsageError);
  EXPECT_THROW(read(R"({"sizes": [{"radius_px": [3, 4]}, {"radius_px": [5, 6]}]})"), UsageError);
  EXPECT_THROW(read(R"({"held_out": 0.9})"), UsageError);
  EXPECT_THROW(read(R"({"outline_px": -1})"), UsageError);
  EXPECT_THROW(read(R"({"frames": 0})"), UsageError);
  EXPECT_THROW(read(R"({"frames": 40})"), UsageError) << "the object leaves the picture";
  EXPECT_THROW(draw(read(R"({"held_out": 0})"), 1, Split::held_out), UsageError);
  EXPECT_THROW(render(WorldConfig{}, Scene{"ball", "mauve", "left", "gray", "", 12, 30, 30, 1}), UsageError);
}

TEST(World, AClipIsMadeWithinThreeMilliseconds) {
  const WorldConfig config;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t i = 0; i < 100; ++i) sample(config, 3, i, Split::train);
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() / 100;
  RecordProperty("ms_per_clip", std::to_string(ms));
#ifdef NDEBUG
  EXPECT_LT(ms, 9.0);  // 3 ms on an idle core; a busy machine gets three times as much
#endif
}

}  // namespace
}  // namespace kinora::world
