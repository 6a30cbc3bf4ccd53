#include "kinora/train/checkpoint.h"

#include <gtest/gtest.h>

#include <fstream>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/test_disk.h"
#include "kinora/base/test_folder.h"

namespace kinora::train {
namespace {

namespace fs = std::filesystem;

class TrainCheckpoint : public ::testing::Test {
 protected:
  TrainCheckpoint() {
    set_log_sink([this](LogLevel level, std::string_view line) {
      if (level == LogLevel::warn) warnings_.emplace_back(line);
    });
  }
  ~TrainCheckpoint() override { set_log_sink({}); }

  void save(int64_t step) {
    save_checkpoint(folder_, step, {{"w", at::full({3}, static_cast<double>(step), at::kFloat)}});
  }
  fs::path file(int64_t step, const char* ending) const { return folder_ / concat("step-", step, ending); }
  void damage(int64_t step) {
    std::fstream out(file(step, ".safetensors"), std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(-1, std::ios::end);
    out.put('\x55');
  }

  const TempFolder temp_;
  const fs::path folder_ = temp_ / "run";
  std::vector<std::string> warnings_;
};

TEST_F(TrainCheckpoint, GivesBackWhatWasSaved) {
  EXPECT_FALSE(newest_checkpoint(folder_).has_value()) << "a folder that is not there has no checkpoint";
  save(7);
  const auto saved = newest_checkpoint(folder_);
  ASSERT_TRUE(saved.has_value());
  EXPECT_EQ(saved->step, 7);
  EXPECT_TRUE(load_tensor(Checkpoint(saved->file).require("w")).equal(at::full({3}, 7.0, at::kFloat)));
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(TrainCheckpoint, KeepsTheNewestThreeByNumberAndNotByName) {
  for (const int64_t step : {9, 10, 11, 100}) save(step);
  EXPECT_FALSE(fs::exists(file(9, ".safetensors")));
  EXPECT_FALSE(fs::exists(file(9, ".json")));
  EXPECT_TRUE(fs::exists(file(10, ".safetensors")));
  EXPECT_EQ(newest_checkpoint(folder_)->step, 100);
}

TEST_F(TrainCheckpoint, DamagedNewestIsSkippedWithAWarningThatNamesIt) {
  save(1), save(2);
  damage(2);
  EXPECT_EQ(newest_checkpoint(folder_)->step, 1);
  ASSERT_EQ(warnings_.size(), 1U);
  EXPECT_NE(warnings_[0].find("step-2.safetensors"), std::string::npos) << warnings_[0];
}

TEST_F(TrainCheckpoint, DamagedLaterStepDoesNotTakeThePlaceOfAWholeOne) {
  save(1), save(9);
  damage(9);
  EXPECT_EQ(newest_checkpoint(folder_)->step, 1);
  save(2), save(3);
  EXPECT_FALSE(fs::exists(file(9, ".safetensors")));
  damage(3);
  EXPECT_EQ(newest_checkpoint(folder_)->step, 2);
}

TEST_F(TrainCheckpoint, WhatAKilledRunLeftOfOlderAndUnfinishedOnesGoes) {
  for (const int64_t step : {1, 2, 3}) save(step);
  write_file(file(4, ".safetensors"), "its sum was not written");
  fs::copy_file(file(1, ".json"), file(0, ".json"));
  write_file(file(0, ".safetensors"), "its sum was to go next");
  write_file(folder_ / "weights.safetensors", "of another kind");
  drop_other_checkpoints(folder_, 3);
  EXPECT_EQ(newest_checkpoint(folder_)->step, 3);
  for (const int64_t step : {0, 4}) EXPECT_FALSE(fs::exists(file(step, ".safetensors"))) << step;
  EXPECT_FALSE(fs::exists(file(0, ".json")));
  for (const int64_t step : {1, 2, 3}) EXPECT_TRUE(fs::exists(file(step, ".safetensors"))) << step;
  EXPECT_TRUE(fs::exists(folder_ / "weights.safetensors"));
}

TEST_F(TrainCheckpoint, FolderThatCannotBeReadIsNotTakenForAnEmptyOne) {
  fs::create_directories(folder_);
  write_file(folder_ / "file", "");
  EXPECT_THROW(newest_checkpoint(folder_ / "file"), ResourceError);
}

TEST_F(TrainCheckpoint, CutOffMissingAndUnreadableFilesAreSkipped) {
  const auto breaks = [&](const auto& harm) {
    fs::remove_all(folder_);
    warnings_.clear();
    save(1), save(2);
    harm();
    EXPECT_EQ(newest_checkpoint(folder_)->step, 1);
    EXPECT_EQ(warnings_.size(), 1U);
  };
  breaks([&] { fs::resize_file(file(2, ".safetensors"), 20); });
  breaks([&] { fs::remove(file(2, ".safetensors")); });
  breaks([&] { write_file(file(2, ".json"), "{"); });
  breaks([&] { write_file(file(2, ".json"), "[]"); });
  breaks([&] { write_file(file(2, ".json"), "{\"step\": 2}"); });
  breaks([&] {
    for (const char* ending : {".json", ".safetensors"})
      fs::copy_file(file(1, ending), file(2, ending), fs::copy_options::overwrite_existing);
  });
}

TEST_F(TrainCheckpoint, NoneWholeIsADataErrorSoThatNoRunStartsAnewInSilence) {
  save(1), save(2);
  damage(1), damage(2);
  EXPECT_THROW(newest_checkpoint(folder_), DataError);
  EXPECT_EQ(warnings_.size(), 2U);
}

TEST_F(TrainCheckpoint, TensorsWithoutASumDoNotCount) {
  save(1), save(2);
  fs::remove(file(2, ".json"));
  EXPECT_EQ(newest_checkpoint(folder_)->step, 1);
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(TrainCheckpoint, EveryDamagedByteAndEveryCutIsNoticed) {
  for (const int64_t step : {7, 8}) save(step);
  int64_t num_damaged = 0;
  const auto notices = [&](const fs::path& damaged, const std::string& bytes) {
    write_file(damaged, bytes);
    warnings_.clear();
    EXPECT_EQ(newest_checkpoint(folder_)->step, 7) << damaged << " of " << bytes.size();
    EXPECT_EQ(warnings_.size(), 1U);
    ++num_damaged;
  };
  for (const char* ending : {".safetensors", ".json"}) {
    const std::string whole = read_file(file(8, ending), 1 << 20);
    for (size_t i = 0; i < whole.size(); ++i) {
      std::string bytes = whole;
      bytes[i] ^= '\x11';
      notices(file(8, ending), bytes);
      if (i + 1 < whole.size() || whole[i] != '\n') notices(file(8, ending), whole.substr(0, i));
    }
    write_file(file(8, ending), whole);
    EXPECT_EQ(newest_checkpoint(folder_)->step, 8);
  }
  EXPECT_GT(num_damaged, 200);
}

TEST_F(TrainCheckpoint, IsOnTheDiskBeforeItsSumAndItsSumBeforeAnOlderOneGoes) {
  for (const int64_t step : {1, 2, 3}) save(step);
  DiskCalls calls;
  save(4);
  EXPECT_EQ(calls.seen, (std::vector<std::string>{"fsync .step-4.safetensors", "rename step-4.safetensors", "fsync run",
                                                  "fsync .step-4.json", "rename step-4.json", "fsync run",
                                                  "remove step-1.json", "remove step-1.safetensors"}));
  for (const std::string fails : {"fsync .step-5.safetensors", "rename step-5.safetensors", "fsync .step-5.json"}) {
    calls.fails = fails;
    EXPECT_THROW(save(5), ResourceError) << fails;
    EXPECT_EQ(newest_checkpoint(folder_)->step, 4) << fails;
    EXPECT_TRUE(fs::exists(file(2, ".json"))) << fails;
  }
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(TrainCheckpoint, ForeignFilesInTheFolderAreLeftAlone) {
  save(1);
  for (const char* name : {"step-.json", "step-x.json", "step-99999999999999999999.json", "loss.csv"})
    write_file(folder_ / name, "");
  EXPECT_EQ(newest_checkpoint(folder_)->step, 1);
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(TrainCheckpoint, FolderThatCannotBeMadeIsAResourceError) {
  fs::create_directories(folder_);
  write_file(folder_ / "file", "");
  EXPECT_THROW(save_checkpoint(folder_ / "file" / "inside", 1, {{"w", at::zeros({1})}}), ResourceError);
}

}  // namespace
}  // namespace kinora::train
