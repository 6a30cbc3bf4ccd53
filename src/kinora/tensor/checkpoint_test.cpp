#include "kinora/tensor/checkpoint.h"

#include <gtest/gtest.h>

#include <fstream>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"

namespace kinora {
namespace {

namespace fs = std::filesystem;

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }

  void put(const fs::path& path, const std::vector<std::string>& names) {
    static const std::string kFour = "1234";
    std::vector<TensorBytes> tensors;
    for (const std::string& name : names) {
      tensors.push_back({name, DType::F32, {1}, std::as_bytes(std::span(kFour.data(), kFour.size()))});
    }
    write_safetensors(path, tensors);
  }
  void put_text(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

  // The message and the hint of the error of class E that opening gives.
  template <typename E>
  std::string error(const fs::path& path) {
    try {
      Checkpoint checkpoint(path);
    } catch (const E& failure) {
      return std::string(failure.what()) + " | " + failure.hint();
    }
    ADD_FAILURE() << "no error of the expected class: " << path;
    return "";
  }

  const TempFolder temp_;
  const fs::path root_ = temp_.path();
  const fs::path folder_ = root_ / "model";
};

TEST_F(CheckpointTest, OpensAFileOrTheFolderAroundIt) {
  for (const char* name : {"model.safetensors", "diffusion_pytorch_model.safetensors", "other.safetensors"}) {
    put(folder_ / name, {"a", "b"});
    for (const fs::path& path : {folder_, folder_ / name}) {
      const Checkpoint checkpoint(path);
      EXPECT_EQ(checkpoint.files().size(), 1U);
      EXPECT_EQ(checkpoint.tensors().size(), 2U);
      EXPECT_EQ(checkpoint.num_bytes(), 8U);
      EXPECT_EQ(checkpoint.require("b").bytes().size(), 4U);
      EXPECT_EQ(checkpoint.find("c"), nullptr);
      EXPECT_THROW(checkpoint.require("c"), DataError);
      EXPECT_NO_THROW(checkpoint.check_unchanged());
    }
    fs::remove(folder_ / name);
  }
}

TEST_F(CheckpointTest, PrefersTheWholeModelToItsVariants) {
  put(folder_ / "model.safetensors", {"a"});
  put(folder_ / "model.fp16.safetensors", {"a"});
  EXPECT_EQ(Checkpoint(folder_).require("a").file->path().filename(), "model.safetensors");
  fs::remove(folder_ / "model.safetensors");
  put(folder_ / "model.fp32.safetensors", {"a"});
  EXPECT_NE(error<DataError>(folder_).find("is in both"), std::string::npos);
}

TEST_F(CheckpointTest, JoinsShardsThroughTheIndex) {
  put(folder_ / "model-00001-of-00002.safetensors", {"a", "b"});
  put(folder_ / "model-00002-of-00002.safetensors", {"c"});
  EXPECT_EQ(Checkpoint(folder_).tensors().size(), 3U);  // without index: all files
  put_text(folder_ / "model.safetensors.index.json", R"({"metadata": {"total_size": 12}, "weight_map": {
    "a": "model-00001-of-00002.safetensors", "b": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}})");
  put(folder_ / "unrelated.safetensors", {"a"});
  for (const fs::path& path : {folder_, folder_ / "model.safetensors.index.json"}) {
    const Checkpoint checkpoint(path);
    EXPECT_EQ(checkpoint.files().size(), 2U);
    EXPECT_EQ(checkpoint.require("c").file->path().filename(), "model-00002-of-00002.safetensors");
  }
  fs::rename(folder_ / "model.safetensors.index.json", folder_ / "own.safetensors.index.json");
  EXPECT_EQ(Checkpoint(folder_).tensors().size(), 3U);
  fs::copy_file(folder_ / "own.safetensors.index.json", folder_ / "own2.safetensors.index.json");
  error<UsageError>(folder_);
}

TEST_F(CheckpointTest, AnIndexThatDoesNotHoldIsRefused) {
  put(folder_ / "s1.safetensors", {"a", "b"});
  put(folder_ / "s2.safetensors", {"b"});
  put(root_ / "outside.safetensors", {"a"});
  fs::create_symlink("../outside.safetensors", folder_ / "link.safetensors");
  fs::create_symlink("nowhere", folder_ / "broken.safetensors");
  const fs::path index = folder_ / "model.safetensors.index.json";
  const std::pair<std::string, std::string> cases[] = {
      {R"({"a": "s1.safetensors", "b": "s2.safetensors"})", "is in both"},
      {R"({"a": "s1.safetensors"})", "\"b\" of 's1.safetensors' is not listed"},
      {R"({"a": "s1.safetensors", "b": "s1.safetensors", "c": "s1.safetensors"})", "\"c\" is not in 's1.safetensors'"},
      {R"({"a": "s3.safetensors"})", "'s3.safetensors' is missing"},
      {R"({"a": "../outside.safetensors"})", "plain name"},
      {R"({"a": "/etc/passwd"})", "plain name"},
      {R"({"a": ".."})", "plain name"},
      {R"({"a": ""})", "plain name"},
      {R"({"a": "s1.bin"})", "plain name"},
      {R"({"a": "s1\u0000.safetensors"})", "plain name"},
      {R"({"a": "link.safetensors"})", "link out of its folder"},
      {R"({"a": "broken.safetensors"})", "broken link"},
      {R"({"a": 3})", "no file name"},
      {R"([])", "expected an object"},
      {R"({"a": "s1.safetensors", "a": "s2.safetensors"})", "occurs twice"},
  };
  for (const auto& [map, words] : cases) {
    put_text(index, "{\"weight_map\": " + map + "}");
    EXPECT_NE(error<DataError>(folder_).find(words), std::string::npos) << map << ": " << error<DataError>(folder_);
  }
  put_text(index, "{}");
  EXPECT_NE(error<DataError>(folder_).find("weight_map"), std::string::npos);
}

TEST_F(CheckpointTest, ShardsOfTheHubCacheAreLinksThatHold) {
  const fs::path blobs = root_ / "models--x--y" / "blobs";
  const fs::path vae = root_ / "models--x--y" / "snapshots" / "abc" / "vae";
  fs::create_directories(blobs);
  fs::create_directories(vae);
  put(blobs / "0123", {"a"});
  fs::create_symlink("../../../blobs/0123", vae / "s.safetensors");
  put_text(vae / "model.safetensors.index.json", R"({"weight_map": {"a": "s.safetensors"}})");
  EXPECT_EQ(Checkpoint(vae).tensors().size(), 1U);
}

TEST_F(CheckpointTest, PicklesAreRefusedWithTheCommandThatConvertsThem) {
  for (const char* name : {"x.pt", "x.pth", "pytorch_model.bin", "x.ckpt"}) {
    put_text(folder_ / name, "PK");
    const std::string of_file = error<UsageError>(folder_ / name);
    EXPECT_NE(of_file.find("python3 tools/convert.py '" + (folder_ / name).string() + "' '"), std::string::npos)
        << of_file;
    const std::string of_folder = error<UsageError>(folder_);
    EXPECT_NE(
        of_folder.find("python3 tools/convert.py '" + folder_.string() + "' '" + folder_.string() + "-safetensors'"),
        std::string::npos)
        << of_folder;
    EXPECT_EQ(of_folder, error<UsageError>(folder_ / "").replace(1, folder_.string().size() + 1, folder_.string()));
    fs::remove(folder_ / name);
  }
}

TEST_F(CheckpointTest, APathWithoutWeightsIsRefused) {
  EXPECT_NE(error<UsageError>(folder_).find("no .safetensors file"), std::string::npos);
  EXPECT_NE(error<UsageError>(folder_ / "missing").find("does not exist"), std::string::npos);
  fs::create_symlink("loop", folder_ / "loop");
  EXPECT_NE(error<ResourceError>(folder_ / "loop").find("cannot be read"), std::string::npos);
  put_text(folder_ / ".x.tmp-1-0.safetensors", "half");
  EXPECT_NE(error<UsageError>(folder_).find("no .safetensors file"), std::string::npos);
}

}  // namespace
}  // namespace kinora
