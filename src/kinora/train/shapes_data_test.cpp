#include "kinora/train/shapes_data.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/test_folder.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/text/tokenizer_json.h"

namespace kinora::train {
namespace {

namespace fs = std::filesystem;

world::WorldConfig small_world() {
  world::WorldConfig config;
  config.height = 40, config.width = 48, config.frames = 5;
  config.sizes = {{"", 7.0, 8.0}};
  world::check(config);
  return config;
}

TEST(ClipBatch, IsTheTrainingSplitWithoutHeldOutCombinations) {
  const world::WorldConfig config = small_world();
  const std::vector<int64_t> indices{0, 17, 3};
  const Tensor clips = clip_batch(config, 5, indices);
  EXPECT_EQ(clips.sizes(), (std::vector<int64_t>{3, 3, 5, 40, 48}));
  for (int64_t b = 0; b < 3; ++b) {
    const auto sample = world::sample(config, 5, static_cast<uint64_t>(indices[b]), world::Split::train);
    EXPECT_TRUE(clips[b].equal(media::to_tensor(sample.clip)));
  }
  for (uint64_t i = 0; i < 1000; ++i) {
    ASSERT_FALSE(world::is_held_out(config, world::sample_scene(config, 5, i, world::Split::train))) << i;
  }
}

TEST(CropBatch, MostCropsShowTheObjectAndTheMaskSaysWhere) {
  const world::WorldConfig config = small_world();
  const Crops crops = crop_batch(config, 5, 0, 60, 3, 16);
  ASSERT_EQ(crops.pixels.sizes(), (std::vector<int64_t>{60, 3, 16, 16}));
  ASSERT_EQ(crops.foreground.sizes(), (std::vector<int64_t>{60, 1, 16, 16}));
  EXPECT_LE(crops.pixels.abs().max().item<double>(), 1.0);
  EXPECT_TRUE((crops.foreground * (1 - crops.foreground)).eq(0).all().item<bool>());
  // Three of four are put around the object; of the others some meet it by chance.
  const Tensor share = crops.foreground.mean({1, 2, 3});
  EXPECT_GE(share.gt(0.1).sum().item<int64_t>(), 40);
  EXPECT_LT(share.gt(0.1).sum().item<int64_t>(), 60) << "some crops must show background alone";
}

TEST(CropBatch, DependsOnSeedAndFirstIndexOnly) {
  const world::WorldConfig config = small_world();
  const Crops a = crop_batch(config, 5, 7, 10, 5, 16), b = crop_batch(config, 5, 7, 10, 5, 16),
              c = crop_batch(config, 6, 7, 10, 5, 16);
  EXPECT_TRUE(a.pixels.equal(b.pixels));
  EXPECT_TRUE(a.foreground.equal(b.foreground));
  EXPECT_FALSE(a.pixels.equal(c.pixels));
}

TEST(CropBatch, SideOfTheFrameGivesWholeFramesAndTheLastClipMayGiveFewer) {
  world::WorldConfig config = small_world();
  config.height = config.width = 48;
  const Crops crops = crop_batch(config, 5, 2, 5, 3, 48);
  ASSERT_EQ(crops.pixels.size(0), 5);
  for (int64_t i = 0; i < 5; ++i) {
    const int64_t index = 2 + i / 3;
    const Tensor clip = clip_batch(config, 5, std::vector<int64_t>{index})[0];
    bool found = false;
    for (int64_t f = 0; f < config.frames; ++f) found = found || clip.select(1, f).equal(crops.pixels[i]);
    EXPECT_TRUE(found) << "crop " << i << " is no frame of clip " << index;
  }
}

TEST(Tokenize, PadsToTheLengthAndMasksThePadding) {
  const world::WorldConfig config = small_world();
  const text::Tokenizer tokenizer(text::parse_tokenizer_json(world::tokenizer_json(config), "tokenizer.json"));
  const Tokens tokens = tokenize(tokenizer, {"a red ball", "grass"}, 11);
  ASSERT_EQ(tokens.ids.sizes(), (std::vector<int64_t>{2, 11}));
  const auto alone = tokenizer.encode("a red ball").ids;
  const Tensor mask = tokens.mask.sum(1);
  EXPECT_EQ(mask[0].item<int64_t>(), static_cast<int64_t>(alone.size()));
  EXPECT_LT(mask[1].item<int64_t>(), mask[0].item<int64_t>());
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_EQ(tokens.ids[0][static_cast<int64_t>(i)].item<int64_t>(), alone[i]);
  const int64_t pad = tokenizer.encode("", {.pad_to = 2}).ids.back();
  EXPECT_TRUE((tokens.ids.eq(pad) == tokens.mask.eq(0)).all().item<bool>());
}

class CachedLatents : public ::testing::Test {
 protected:
  Tensor get(const std::string& key, int64_t count, uint64_t seed = 5) {
    encoded_ = 0;
    done_.clear();
    return cached_latents(
        file_, key, config_, seed, count, 3,
        [&](const Tensor& clips) {
          encoded_ += clips.size(0);
          return clips.mean({3, 4}, true);
        },
        [&](int64_t done) { done_.push_back(done); });
  }
  world::WorldConfig config_ = small_world();
  const TempFolder temp_;
  const std::filesystem::path file_ = temp_ / "latents.safetensors";
  int64_t encoded_ = 0;
  std::vector<int64_t> done_;
};

TEST_F(CachedLatents, AreEncodedOnceInBatches) {
  const Tensor first = get("vae a", 7);
  EXPECT_EQ(first.sizes(), (std::vector<int64_t>{7, 3, 5, 1, 1}));
  EXPECT_EQ(first.scalar_type(), at::kBFloat16);
  EXPECT_EQ(encoded_, 7);
  EXPECT_EQ(done_, (std::vector<int64_t>{3, 6, 7}));
  const std::vector<int64_t> last{6};
  EXPECT_TRUE(first[6].equal(clip_batch(config_, 5, last)[0].mean({2, 3}, true).to(at::kBFloat16)));
  EXPECT_TRUE(get("vae a", 7).equal(first));
  EXPECT_EQ(encoded_, 0);
}

TEST_F(CachedLatents, FewerComeFromTheSameFileAndMoreAreEncoded) {
  const Tensor first = get("vae a", 5);
  EXPECT_TRUE(get("vae a", 2).equal(first.narrow(0, 0, 2)));
  EXPECT_EQ(encoded_, 0);
  const Tensor more = get("vae a", 7);
  EXPECT_EQ(encoded_, 4) << "all but the whole batches that were there";
  EXPECT_TRUE(more.narrow(0, 0, 5).equal(first));
}

TEST_F(CachedLatents, ThatWereCancelledAreKept) {
  const auto cancelled = [&](const Tensor& clips) -> Tensor {
    if (encoded_ == 3) throw CancelledError();
    encoded_ += clips.size(0);
    return clips.mean({3, 4}, true);
  };
  EXPECT_THROW(cached_latents(file_, "vae a", config_, 5, 7, 3, cancelled, [](int64_t) {}), CancelledError);
  const Tensor resumed = get("vae a", 7);
  EXPECT_EQ(encoded_, 4);
  std::filesystem::remove(file_);
  EXPECT_TRUE(get("vae a", 7).equal(resumed));
}

TEST_F(CachedLatents, ThatAreDamagedAreEncodedAnew) {
  const Tensor first = get("vae a", 7).clone();
  set_log_sink([](LogLevel, std::string_view) {});
  const std::string whole = read_file(file_, 1 << 20);
  std::string flipped = whole;
  flipped.back() ^= '\x10';
  for (const std::string& bytes : {flipped, whole.substr(0, whole.size() / 2), std::string()}) {
    write_file(file_, bytes);
    EXPECT_TRUE(get("vae a", 7).equal(first));
    EXPECT_EQ(encoded_, 7);
  }
  set_log_sink({});
  get("vae a", 7);
  EXPECT_EQ(encoded_, 0);
}

TEST_F(CachedLatents, OfAnotherKeyAreEncodedAnew) {
  get("vae a", 4);
  get("vae b", 4);
  EXPECT_EQ(encoded_, 4);
  get("vae b", 4);
  EXPECT_EQ(encoded_, 0);
}

TEST_F(CachedLatents, OfAnotherWorldOrSeedAreEncodedAnew) {
  const Tensor first = get("vae a", 4);
  config_.colours = {"red", "blue"};
  const Tensor other = get("vae a", 4);
  EXPECT_EQ(encoded_, 4);
  EXPECT_FALSE(other.equal(first));
  EXPECT_FALSE(get("vae a", 4, 6).equal(other));
  EXPECT_EQ(encoded_, 4);
}

}  // namespace
}  // namespace kinora::train
