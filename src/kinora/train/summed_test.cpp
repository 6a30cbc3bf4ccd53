#include "kinora/train/summed.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/test_folder.h"

namespace kinora::train {
namespace {

class SummedFile : public ::testing::Test {
 protected:
  SummedFile() {
    set_log_sink([this](LogLevel, std::string_view line) { warnings_.emplace_back(line); });
  }
  ~SummedFile() override { set_log_sink({}); }

  const TempFolder temp_;
  const std::filesystem::path file_ = temp_ / "x.safetensors";
  const NamedTensors tensors_{{"b", at::arange(6, at::kFloat).view({2, 3})}, {"a", at::ones({2}, at::kBFloat16)}};
  std::vector<std::string> warnings_;
};

TEST_F(SummedFile, ComesBackAsItWas) {
  EXPECT_FALSE(read_summed(file_).has_value()) << "there is none yet";
  save_summed(file_, tensors_, {{"key", "value"}});
  const auto found = read_summed(file_);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->notes, (Metadata{{"key", "value"}}));
  ASSERT_EQ(found->tensors.size(), 2U);
  EXPECT_TRUE(found->tensors[1].second.equal(tensors_[0].second));
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(SummedFile, DamagedAnywhereIsNoneWithAWarningThatNamesIt) {
  save_summed(file_, tensors_, {{"key", "value"}});
  const std::string whole = read_file(file_, 1 << 20);
  int num_noticed = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] ^= '\x01';
    for (const std::string& bytes : {damaged, whole.substr(0, i)}) {
      write_file(file_, bytes);
      warnings_.clear();
      const auto found = read_summed(file_);
      if (found) {  // the name of the sum itself, or a space: what is read is what was written
        ASSERT_EQ(bytes.size(), whole.size()) << i;
        ASSERT_EQ(sum_of(found->tensors), sum_of(tensors_)) << i;
        ASSERT_EQ(found->notes.at("key"), "value") << i;
      } else {
        ASSERT_EQ(warnings_.size(), 1U) << i;
        ASSERT_NE(warnings_[0].find("x.safetensors"), std::string::npos) << warnings_[0];
        ++num_noticed;
      }
    }
  }
  EXPECT_GT(num_noticed, static_cast<int>(2 * whole.size() - 20));
}

TEST_F(SummedFile, OfAnOlderVersionIsTakenAsItIs) {
  save_tensors(file_, tensors_, {{"key", "value"}});
  ASSERT_TRUE(read_summed(file_).has_value());
  EXPECT_EQ(read_summed(file_)->notes.at("key"), "value");
}

TEST_F(SummedFile, OfAnotherTypeOrShapeIsDamaged) {
  save_summed(file_, tensors_, {});
  const std::string whole = read_file(file_, 1 << 20);
  for (const auto& [from, to] : {std::pair{"\"F32\"", "\"I32\""}, {"[2,3]", "[3,2]"}, {"\"b\"", "\"c\""}}) {
    std::string changed = whole;
    changed.replace(changed.find(from), std::string_view(from).size(), to);
    write_file(file_, changed);
    EXPECT_FALSE(read_summed(file_).has_value()) << to;
  }
}

TEST_F(SummedFile, SumIsOfNamesAndValuesInAnyOrder) {
  const uint32_t sum = sum_of(tensors_);
  EXPECT_EQ(sum_of({tensors_[1], tensors_[0]}), sum);
  EXPECT_NE(sum_of({{"c", tensors_[0].second}, tensors_[1]}), sum);
  EXPECT_NE(sum_of({{"b", tensors_[0].second + 1}, tensors_[1]}), sum);
}

}  // namespace
}  // namespace kinora::train
