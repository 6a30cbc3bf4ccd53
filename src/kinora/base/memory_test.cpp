#include "kinora/base/memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <fstream>

#include "kinora/base/test_folder.h"

namespace kinora {
namespace {

namespace fs = std::filesystem;

TEST(Memory, ResidentAndPeakFollowTouchedPages) {
  constexpr size_t kBytes = 64 << 20;
  ASSERT_TRUE(reset_peak_resident());
  const uint64_t before = resident_bytes();
  void* block = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  std::memset(block, 1, kBytes);
  EXPECT_GE(resident_bytes(), before + kBytes * 95 / 100);
  ::munmap(block, kBytes);
  EXPECT_LT(resident_bytes(), before + kBytes / 4);
  EXPECT_GE(peak_resident_bytes(), before + kBytes * 95 / 100);
  ASSERT_TRUE(reset_peak_resident());
  EXPECT_LT(peak_resident_bytes(), before + kBytes / 4);
}

TEST(Memory, OfThisMachineIsAvailable) {
  EXPECT_GT(available_memory_bytes(), uint64_t{1} << 20);
  EXPECT_LT(available_memory_bytes(), uint64_t{1} << 50);
}

class FakeRoot : public testing::Test {
 protected:
  void SetUp() override { put("proc/meminfo", "MemTotal: 16000000 kB\nMemFree: 10 kB\nMemAvailable:    8000 kB\n"); }
  void put(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  const TempFolder temp_;
  const fs::path root_ = temp_.path();
};

TEST_F(FakeRoot, WithoutCgroupsTheMachineDecides) { EXPECT_EQ(available_memory_bytes(root_), 8000U * 1024); }

TEST_F(FakeRoot, TheTightestCgroupOnTheWayUpDecides) {
  put("proc/self/cgroup", "0::/job/task\n");
  put("sys/fs/cgroup/job/task/memory.max", "max\n");
  put("sys/fs/cgroup/job/task/memory.current", "100\n");
  put("sys/fs/cgroup/job/memory.max", "5000\n");
  put("sys/fs/cgroup/job/memory.current", "3000\n");
  EXPECT_EQ(available_memory_bytes(root_), 2000U);
  put("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 700\n");
  EXPECT_EQ(available_memory_bytes(root_), 2700U);
  put("sys/fs/cgroup/memory.max", "1000\n");
  put("sys/fs/cgroup/memory.current", "4000\n");
  EXPECT_EQ(available_memory_bytes(root_), 0U);
}

TEST_F(FakeRoot, VersionOneOfCgroupsIsReadToo) {
  put("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "6000\n");  // in a container the path of the group is not mounted
  put("sys/fs/cgroup/memory/memory.usage_in_bytes", "2000\n");
  put("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 500\n");
  EXPECT_EQ(available_memory_bytes(root_), 4500U);
}

TEST(HumanBytes, HasOneDecimalAndTheRightUnit) {
  const std::pair<uint64_t, const char*> cases[] = {{0, "0 B"},
                                                    {999, "999 B"},
                                                    {1000, "1.0 kB"},
                                                    {1950, "1.9 kB"},
                                                    {999'949, "999.9 kB"},
                                                    {999'960, "1.0 MB"},
                                                    {9'100'000'000, "9.1 GB"},
                                                    {UINT64_MAX, "18.4 EB"}};
  for (const auto& [bytes, text] : cases) EXPECT_EQ(human_bytes(bytes), text) << bytes;
}

}  // namespace
}  // namespace kinora
