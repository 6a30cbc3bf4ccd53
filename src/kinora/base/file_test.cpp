#include "kinora/base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>

#include "kinora/base/error.h"
#include "kinora/base/test_disk.h"
#include "kinora/base/test_folder.h"

namespace kinora {
namespace {

namespace fs = std::filesystem;

class File : public testing::Test {
 protected:
  size_t num_files() const { return static_cast<size_t>(temp_.count()); }
  const TempFolder temp_;
  const fs::path folder_ = temp_.path();
};

using AtomicFiles = File;
using MappedFiles = File;

// Files of this process may not grow beyond `bytes` while it lives; the signal that would kill is ignored.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

TEST_F(File, IsReadWholeUpToTheLimit) {
  const std::string bytes("a\0b\nc", 5);
  write_file(folder_ / "x", bytes);
  EXPECT_EQ(read_file(folder_ / "x", 5), bytes);
  EXPECT_EQ(read_file(folder_ / "x", 1000), bytes);
  EXPECT_THROW(read_file(folder_ / "x", 4), DataError);
  write_file(folder_ / "empty", "");
  EXPECT_EQ(read_file(folder_ / "empty", 0), "");
}

TEST_F(File, WithoutAStatedSizeIsReadAndBoundedToo) {
  EXPECT_FALSE(read_file("/proc/self/status", 1 << 20).empty());
  EXPECT_THROW(read_file("/proc/self/status", 10), DataError);
}

TEST_F(File, ThatIsNoRegularFileIsRefused) {
  EXPECT_THROW(read_file(folder_ / "missing", 10), UsageError);
  EXPECT_THROW(read_file(folder_, 10), UsageError);
  EXPECT_THROW(read_file("/dev/zero", 10), UsageError);
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_THROW(read_file(folder_ / "pipe", 10), UsageError);  // and does not wait for a writer
  EXPECT_THROW(MappedFile(folder_ / "pipe"), UsageError);
}

TEST_F(AtomicFiles, AppearOnlyWithCommit) {
  {
    AtomicFile file(folder_ / "out.mp4");
    file.write("half");
    EXPECT_FALSE(fs::exists(folder_ / "out.mp4"));
    EXPECT_EQ(file.temp_path().extension(), ".mp4");
    EXPECT_EQ(file.temp_path().parent_path(), folder_);
  }
  EXPECT_EQ(num_files(), 0U);
  AtomicFile file(folder_ / "out.mp4");
  file.write("who");
  file.write("le");
  EXPECT_EQ(file.num_written(), 5U);
  file.commit();
  EXPECT_EQ(read_file(folder_ / "out.mp4", 10), "whole");
  EXPECT_EQ(num_files(), 1U);
}

TEST_F(AtomicFiles, KeepTheOldFileUntilThen) {
  write_file(folder_ / "x", "old");
  AtomicFile file(folder_ / "x");
  file.write("new");
  EXPECT_EQ(read_file(folder_ / "x", 10), "old");
  file.commit();
  EXPECT_EQ(read_file(folder_ / "x", 10), "new");
}

TEST_F(AtomicFiles, KeepTheOldFileAndLeaveNothingWhenTheFileMayNotGrow) {
  write_file(folder_ / "x", "old");
  const std::string bytes(100'000, 'n');
  {
    const FileSizeLimit limit(65'536);
    EXPECT_THROW(write_file(folder_ / "x", bytes), ResourceError);
  }
  EXPECT_EQ(read_file(folder_ / "x", 10), "old");
  EXPECT_EQ(num_files(), 1U);
  write_file(folder_ / "x", bytes);
  EXPECT_EQ(read_file(folder_ / "x", 200'000), bytes);
}

TEST_F(AtomicFiles, AreOnTheDiskBeforeTheirNameAndTheNameBeforeTheCallReturns) {
  const DiskCalls calls;
  write_file(folder_ / "x.json", "text");
  EXPECT_EQ(calls.seen,
            (std::vector<std::string>{"fsync .x.json", "rename x.json", "fsync " + folder_.filename().string()}));
}

TEST_F(AtomicFiles, ThatTheDiskRefusesAreGivenUpAndNotTriedAgain) {
  write_file(folder_ / "x", "old");
  DiskCalls calls;
  for (const auto& [fails, error, words] : {std::tuple{"fsync .x", EIO, "Input/output error"},
                                            {"fsync .x", ENOSPC, "No space left"},
                                            {"rename x", EDQUOT, "quota"}}) {
    calls.seen.clear();
    calls.fails = fails;
    calls.error = error;
    try {
      write_file(folder_ / "x", "new");
      ADD_FAILURE() << fails;
    } catch (const ResourceError& failure) {
      EXPECT_NE(std::string(failure.what()).find(words), std::string::npos) << failure.what();
    }
    EXPECT_EQ(calls.seen.back(), fails);
    EXPECT_EQ(read_file(folder_ / "x", 10), "old");
    EXPECT_EQ(num_files(), 1U);
  }
}

TEST_F(AtomicFiles, MayBeFilledByAnotherProgramThroughTheTemporary) {
  AtomicFile file(folder_ / "x.txt");
  std::ofstream(file.temp_path()) << "from elsewhere";
  file.commit();
  EXPECT_EQ(read_file(folder_ / "x.txt", 100), "from elsewhere");
}

TEST_F(AtomicFiles, InAFolderThatCannotBeWrittenAreAResourceErrorNamingIt) {
  write_file(folder_ / "file", "");
  for (const fs::path& folder : {folder_ / "missing", fs::path("/proc/self"), folder_ / "file"}) {
    try {
      AtomicFile file(folder / "x");
      ADD_FAILURE() << folder;
    } catch (const ResourceError& error) {
      EXPECT_NE(std::string(error.what()).find(folder.string()), std::string::npos) << error.what();
      EXPECT_FALSE(error.hint().empty());
    }
  }
  EXPECT_THROW(AtomicFile{folder_}, UsageError);
  EXPECT_THROW(AtomicFile{folder_ / ""}, UsageError);
  EXPECT_THROW(AtomicFile{"/dev/null"}, UsageError);
}

TEST_F(AtomicFiles, WorkWithAPlainNameInTheWorkingFolder) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  write_file("plain", "x");
  fs::current_path(before);
  EXPECT_EQ(read_file(folder_ / "plain", 1), "x");
}

TEST_F(AtomicFiles, FollowLinksAndLeaveThemThere) {
  fs::create_directory(folder_ / "far");
  write_file(folder_ / "far/old", "old");
  fs::create_symlink("far/old", folder_ / "relative");
  fs::create_symlink(folder_ / "relative", folder_ / "absolute");
  fs::create_symlink("far/new", folder_ / "dangling");
  write_file(folder_ / "absolute", "one");
  write_file(folder_ / "dangling", "two");
  EXPECT_TRUE(fs::is_symlink(folder_ / "relative") && fs::is_symlink(folder_ / "absolute"));
  EXPECT_TRUE(fs::is_symlink(folder_ / "dangling"));
  EXPECT_EQ(read_file(folder_ / "far/old", 10), "one");
  EXPECT_EQ(read_file(folder_ / "far/new", 10), "two");
  fs::create_symlink("circle", folder_ / "circle");
  EXPECT_THROW(AtomicFile{folder_ / "circle"}, UsageError);
}

TEST_F(AtomicFiles, KeepTheModeOfTheFileThatTheyReplace) {
  for (const mode_t mode : {0600U, 0666U, 0444U}) {
    write_file(folder_ / "x", "old");
    ASSERT_EQ(::chmod((folder_ / "x").c_str(), mode), 0);
    {
      AtomicFile file(folder_ / "x");
      EXPECT_EQ(static_cast<mode_t>(fs::status(file.temp_path()).permissions()) & ~(mode | 0600U), 0U);
      file.commit();
    }
    EXPECT_EQ(static_cast<mode_t>(fs::status(folder_ / "x").permissions()), mode);
  }
}

TEST_F(AtomicFiles, WithANameThatIsTooLongAreAUsageErrorBeforeTheWork) {
  for (const size_t length : {250U, 300U}) {
    try {
      AtomicFile file(folder_ / std::string(length, 'n'));
      ADD_FAILURE() << length;
    } catch (const UsageError& error) {
      EXPECT_NE(error.hint().find("shorter name"), std::string::npos) << error.hint();
    }
  }
  EXPECT_EQ(num_files(), 0U);
}

TEST_F(File, AFolderThatCannotBeSyncedIsNotSaidToHoldTheOldFile) {
  try {
    sync_folder(folder_ / "missing");
    ADD_FAILURE();
  } catch (const ResourceError& error) {
    EXPECT_NE(error.hint().find("a file that has just got its name there is whole"), std::string::npos);
  }
}

TEST_F(MappedFiles, ShowTheBytesAndNoticeChanges) {
  write_file(folder_ / "x", "hello");
  const MappedFile map(folder_ / "x");
  ASSERT_EQ(map.bytes().size(), 5U);
  EXPECT_EQ(std::to_integer<char>(map.bytes()[4]), 'o');
  EXPECT_FALSE(map.changed());
  write_file(folder_ / "x", "other");  // a rename: the mapping keeps the old file
  EXPECT_FALSE(map.changed());
  EXPECT_EQ(std::to_integer<char>(map.bytes()[4]), 'o');
}

TEST_F(MappedFiles, NoticeACutAndAWriteInPlace) {
  write_file(folder_ / "cut", "hello");
  const MappedFile cut(folder_ / "cut");
  fs::resize_file(folder_ / "cut", 2);
  EXPECT_TRUE(cut.changed());
  write_file(folder_ / "edit", "hello");
  const timespec past[2] = {{1, 0}, {1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (folder_ / "edit").c_str(), past, 0), 0);
  const MappedFile edit(folder_ / "edit");
  std::fstream(folder_ / "edit", std::ios::in | std::ios::out) << "HE";
  EXPECT_TRUE(edit.changed());
}

TEST_F(MappedFiles, MayBeEmpty) {
  write_file(folder_ / "x", "");
  EXPECT_TRUE(MappedFile(folder_ / "x").bytes().empty());
  EXPECT_THROW(MappedFile(folder_ / "missing"), UsageError);
}

TEST(Crc32, EqualsTheKnownValuesAndAByteAtATime) {
  const auto sum = [](std::string_view text, uint32_t seed = 0) {
    return crc32(std::as_bytes(std::span(text.data(), text.size())), seed);
  };
  EXPECT_EQ(sum(""), 0U);
  EXPECT_EQ(sum("123456789"), 0xCBF43926U);
  EXPECT_EQ(sum("The quick brown fox jumps over the lazy dog"), 0x414FA339U);
  std::string text;
  uint32_t slow = 0;
  for (int i = 0; i < 67; ++i) {
    const char c = static_cast<char>(i * 37);
    slow = sum(std::string_view(&c, 1), slow);
    text.push_back(c);
    EXPECT_EQ(sum(text), slow) << i;
  }
}

}  // namespace
}  // namespace kinora
