#include "kinora/comm/shared_memory.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/comm/board.h"

namespace kinora::comm {
namespace {

TEST(SharedMemory, ProcessesSeeTheSameBytesAndNoNameStays) {
  const std::string name = board_name();
  auto mine = SharedMemory::create(name, 4096);
  const auto theirs = SharedMemory::open(name, 4096);
  EXPECT_THROW(SharedMemory::create(name, 4096), ResourceError) << "never another job's";
  EXPECT_THROW(SharedMemory::open(name, 8192), ResourceError) << "too small";
  mine.forget();
  EXPECT_FALSE(std::filesystem::exists(shared_memory_folder() / name));
  static_cast<char*>(mine.data())[7] = 'x';
  EXPECT_EQ(static_cast<char*>(theirs.data())[7], 'x');
  EXPECT_THROW(SharedMemory::open(name, 4096), ResourceError);
}

TEST(SharedMemory, OnlyWhatDeadProcessesLeftIsRemoved) {
  const TempFolder folder;
  const pid_t dead = ::fork();
  if (dead == 0) ::_exit(0);
  ::waitpid(dead, nullptr, 0);
  for (const std::string& name : {concat("kinora-board-", dead, "-1a"), concat("kinora-board-", ::getpid(), "-1a"),
                                  std::string("kinora-board-x"), concat("other-", dead)})
    std::ofstream(folder / name) << "x";
  std::filesystem::create_directories(folder / concat("kinora-job-", dead, "-2b") / "records");
  remove_leftovers(folder.path());
  EXPECT_FALSE(std::filesystem::exists(folder / concat("kinora-board-", dead, "-1a")));
  EXPECT_FALSE(std::filesystem::exists(folder / concat("kinora-job-", dead, "-2b")));
  EXPECT_EQ(folder.count(), 3);
}

class Boards : public testing::Test {
 protected:
  void* memory() { return bytes_.data() + (64 - reinterpret_cast<uintptr_t>(bytes_.data()) % 64) % 64; }
  std::vector<std::byte> bytes_{Board::bytes(2) + 64};
};

TEST_F(Boards, KeepTheLastCallsOfEachRank) {
  Board zero(memory(), 2, 0), one(memory(), 2, 1);
  EXPECT_EQ(zero.news(1), "") << "not there yet";
  one.come();
  EXPECT_EQ(zero.news(1), "rank 1 has called nothing yet");
  for (int64_t i = 0; i < 100; ++i) {
    Call call{.group = 5, .sequence = i, .operation = Operation::barrier};
    seal(call, "b", {});
    one.write(call);
  }
  EXPECT_EQ(zero.news(1), "rank 1 last called barrier #99 'b'");
  EXPECT_EQ(zero.calls(1).size(), kCallsKept);
  EXPECT_EQ(zero.calls(1).front().sequence, 36);
  EXPECT_TRUE(zero.find(1, 5, -1, 36));
  EXPECT_FALSE(zero.find(1, 5, -1, 35)) << "forgotten";
  EXPECT_FALSE(zero.find(1, 6, -1, 99)) << "another group";
  one.leave(Presence::finished);
  EXPECT_EQ(zero.news(1), "rank 1 has finished");
}

TEST_F(Boards, AProcessThatIsStoppedOrGoneIsSeen) {
  Board mine(memory(), 2, 0);
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    (void)!::write(ready[1], "x", 1);
    ::pause();
    ::_exit(0);
  }
  char x;
  ASSERT_EQ(::read(ready[0], &x, 1), 1);
  Board other(memory(), 2, 1);
  other.come();
  reinterpret_cast<Slot*>(static_cast<char*>(memory()) + 64)[1].pid.store(child);
  EXPECT_FALSE(mine.has_gone(1));
  ::kill(child, SIGSTOP);
  int status = 0;
  ::waitpid(child, &status, WUNTRACED);
  EXPECT_EQ(mine.news(1), concat("rank 1 (process ", child, ") is stopped"));
  ::kill(child, SIGKILL);
  siginfo_t info;
  ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_TRUE(mine.has_gone(1)) << "a zombie";
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(mine.has_gone(1));
  EXPECT_EQ(mine.news(1), concat("rank 1 (process ", child, ") has gone"));
  ::close(ready[0]), ::close(ready[1]);
}

TEST_F(Boards, OneRankSpeaks) {
  Board zero(memory(), 2, 0), one(memory(), 2, 1);
  EXPECT_FALSE(zero.speech_is_claimed());
  EXPECT_TRUE(one.claim_speech());
  EXPECT_FALSE(zero.claim_speech());
  EXPECT_TRUE(one.claim_speech()) << "it may ask again";
}

}  // namespace
}  // namespace kinora::comm
