#include "kinora/train/run_folder.h"

#include <gtest/gtest.h>

#include <set>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/test_folder.h"

namespace kinora::train {
namespace {

namespace fs = std::filesystem;

class RunFolder : public ::testing::Test {
 protected:
  const TempFolder temp_;
  const fs::path folder_ = temp_.path();
};

const auto kNever = [](std::string_view) { return false; };

TEST_F(RunFolder, FolderIsMadeWithItsParentsAndAFileInItsPlaceIsAResourceError) {
  make_folder(folder_ / "a" / "b");
  make_folder(folder_ / "a" / "b");
  EXPECT_TRUE(fs::is_directory(folder_ / "a" / "b"));
  write_file(folder_ / "file", "");
  EXPECT_THROW(make_folder(folder_ / "file" / "inside"), ResourceError);
}

TEST_F(RunFolder, LockIsHeldByOneAndFreeAfterIt) {
  {
    const FolderLock first(folder_);
    try {
      const FolderLock second(folder_);
      ADD_FAILURE() << "two hold it";
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(folder_.string()), std::string::npos) << error.what();
    }
  }
  const FolderLock third(folder_);
  EXPECT_THROW(FolderLock(folder_ / "nowhere"), ResourceError);
}

TEST_F(RunFolder, TemporariesOfKilledWritersAreRemovedAndNothingElse) {
  make_folder(folder_ / "below");
  for (const char* name :
       {".step-7.tmp-123-0.safetensors", ".step-7.tmp-123-1.json", ".loss.tmp-9-4.csv", ".loss.tmp-9-5.svg",
        "step-7.json", ".out.tmp-5-0.mp4", ".hidden.json", "x.tmp-1-1.json", "below/.a.tmp-1-1.json"})
    write_file(folder_ / name, "");
  remove_temporaries(folder_);
  std::set<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder_)) left.insert(entry.path().filename());
  EXPECT_EQ(left,
            (std::set<std::string>{"step-7.json", ".out.tmp-5-0.mp4", ".hidden.json", "x.tmp-1-1.json", "below"}));
  EXPECT_TRUE(fs::exists(folder_ / "below/.a.tmp-1-1.json"));
  remove_temporaries(folder_ / "nowhere");
}

TEST(FirstDifference, NamesTheWholeKeyAndTakesNullForAbsent) {
  const Json a = {{"seed", 1}, {"stages", {{"spatial", {{"batch", 3}, {"lr", 0.5}}}}}, {"empty", nullptr}};
  Json b = a;
  b.erase("empty");
  EXPECT_EQ(first_difference(a, b), std::nullopt);
  b["stages"]["spatial"]["batch"] = 4;
  b["stages"]["spatial"]["lr"] = 0.25;
  EXPECT_EQ(first_difference(a, b), "stages.spatial.batch");
  EXPECT_EQ(first_difference(a, b, [](std::string_view key) { return key.ends_with("batch"); }), "stages.spatial.lr");
  b = a;
  b["stages"].erase("spatial");
  EXPECT_EQ(first_difference(a, b), "stages.spatial.batch");
  EXPECT_EQ(first_difference(b, a), "stages.spatial.batch");
  b["seed"] = Json::array({1});
  EXPECT_EQ(first_difference(a, b), "seed");
  EXPECT_EQ(first_difference(Json{{"x", 1}}, Json{{"x", 1.0}}), std::nullopt);
}

TEST_F(RunFolder, KeepsTheFirstConfigAndRefusesAnotherNamingTheKey) {
  const Json first = {{"dtype", "float32"}, {"stages", {{"steps", 5}}}};
  keep_config(folder_, first, kNever);
  EXPECT_EQ(read_json_file(folder_ / "config.json"), first);
  keep_config(folder_, first, kNever);
  Json other = first;
  other["dtype"] = "bfloat16";
  try {
    keep_config(folder_, other, kNever);
    ADD_FAILURE() << "another dtype went through";
  } catch (const UsageError& error) {
    const std::string words = error.what();
    for (const char* part : {"\"dtype\"", "bfloat16", "float32"})
      EXPECT_NE(words.find(part), std::string::npos) << words;
  }
  EXPECT_EQ(read_json_file(folder_ / "config.json"), first);
}

TEST_F(RunFolder, KeyThatMayChangeIsTakenOver) {
  Json config = {{"dtype", "float32"}, {"stages", {{"steps", 5}}}};
  keep_config(folder_, config, kNever);
  config["stages"]["steps"] = 9;
  EXPECT_THROW(keep_config(folder_, config, kNever), UsageError);
  keep_config(folder_, config, [](std::string_view key) { return key == "stages.steps"; });
  EXPECT_EQ(read_json_file(folder_ / "config.json"), config);
}

TEST_F(RunFolder, ReplacedFolderIsWhollyTheNewOne) {
  const auto make = [&](const char* file) {
    make_folder(folder_ / "model.tmp" / "part");
    write_file(folder_ / "model.tmp" / "part" / file, "");
    replace_folder(folder_ / "model.tmp", folder_ / "model");
  };
  make("a");
  EXPECT_TRUE(fs::exists(folder_ / "model/part/a"));
  make("b");
  EXPECT_TRUE(fs::exists(folder_ / "model/part/b"));
  EXPECT_FALSE(fs::exists(folder_ / "model/part/a"));
  EXPECT_FALSE(fs::exists(folder_ / "model.tmp"));
  EXPECT_FALSE(fs::exists(folder_ / "model.old"));
  EXPECT_THROW(replace_folder(folder_ / "nowhere", folder_ / "other"), ResourceError);
}

}  // namespace
}  // namespace kinora::train
