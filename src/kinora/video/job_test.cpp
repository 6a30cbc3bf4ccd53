#include "kinora/video/job.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/test_folder.h"
#include "kinora/tensor/random.h"

namespace kinora::video {
namespace {

/// Two clips, the second in the making.
Job half_done() {
  Job job;
  job.settings = {{"prompts", {"a", "b\xc3\xa4"}}, {"seed", 7}};
  job.latents = {at::randn({4, 3, 2, 5}), at::Tensor()};
  job.first = 1;
  job.state.latents = at::randn({1, 4, 3, 2, 5});
  job.state.trajectory.call = 9;
  job.state.trajectory.history = {at::randn({1, 4, 3, 2, 5})};
  job.state.joined = {0, 1, 1};
  at::Generator generator = cpu_generator(3);
  randn({5}, generator);  // an odd number: a normal value waits in the generator
  job.generators = {generator.get_state()};
  return job;
}

TEST(Job, ComesBackFromItsFileAsItWas) {
  const TempFolder folder;
  const Job job = half_done();
  write_job(folder / "x.job", job);
  const Job back = read_job(folder / "x.job");
  EXPECT_EQ(back.settings, job.settings);
  EXPECT_EQ(back.first, 1);
  EXPECT_FALSE(back.is_denoised);
  EXPECT_TRUE(back.latents[0].equal(job.latents[0]));
  EXPECT_FALSE(back.latents[1].defined());
  EXPECT_TRUE(back.state.latents.equal(job.state.latents));
  EXPECT_EQ(back.state.trajectory.call, 9);
  EXPECT_TRUE(back.state.trajectory.history.at(0).equal(job.state.trajectory.history[0]));
  EXPECT_EQ(back.state.joined, job.state.joined);
  at::Generator one = cpu_generator(0), other = cpu_generator(0);
  one.set_state(job.generators[0]), other.set_state(back.generators.at(0));
  EXPECT_TRUE(randn({33}, one).equal(randn({33}, other)));
}

TEST(Job, EveryCutOfTheFileIsADataError) {
  const TempFolder folder;
  write_job(folder / "x.job", half_done());
  const std::string whole = read_file(folder / "x.job", 1 << 20);
  for (size_t bytes = 0; bytes < whole.size(); bytes += 1 + whole.size() / 61) {
    write_file(folder / "y.job", std::string_view(whole).substr(0, bytes));
    EXPECT_THROW(read_job(folder / "y.job"), DataError) << bytes;
  }
}

TEST(Job, FilesThatAreNoJobAreNamed) {
  const TempFolder folder;
  const auto refused = [&](const Job& job) {
    write_job(folder / "x.job", job);
    EXPECT_THROW(read_job(folder / "x.job"), DataError);
  };
  Job job = half_done();
  job.latents[0][0][0][0][0] = NAN;
  refused(job);
  job = half_done();
  job.is_denoised = true;  // but the second clip is not there
  refused(job);
  job = half_done();
  job.generators.clear();
  refused(job);
  job = half_done();
  job.state.latents = job.state.latents[0];
  refused(job);
  EXPECT_THROW(read_job(folder / "absent"), UsageError);
}

TEST(Job, TheFirstSettingThatDiffersIsNamed) {
  const Json job = {{"seed", 1}, {"steps", 30}, {"width", 64}};
  EXPECT_NO_THROW(check_same_settings(job, job));
  const auto says = [&](const Json& request) -> std::string {
    try {
      check_same_settings(job, request);
    } catch (const UsageError& error) {
      return error.what();
    }
    return {};
  };
  Json other = job;
  other["steps"] = 20, other["width"] = 32;
  EXPECT_NE(says(other).find("its steps is 30, here it is 20"), std::string::npos) << says(other);
  other = job;
  other.erase("width");
  EXPECT_NE(says(other).find("its width is 64, here it is none"), std::string::npos) << says(other);
  other = job;
  other["loops"] = 2;
  EXPECT_NE(says(other).find("its loops is none, here it is 2"), std::string::npos) << says(other);
}

TEST(JobFile, IsWrittenWhenDueAndBroughtUpToDateWhenKept) {
  const TempFolder folder;
  JobFile file(folder / "x.job", {.seconds = 60, .steps = 2});
  Job job = half_done();
  file.note(job);
  EXPECT_FALSE(std::filesystem::exists(file.path()));
  EXPECT_FALSE(file.keep());  // too little was done to leave a file behind
  job.state.trajectory.call = 10;
  file.note(job);
  EXPECT_EQ(read_job(file.path()).state.trajectory.call, 10);
  job.state.trajectory.call = 11;
  file.note(job);
  EXPECT_EQ(read_job(file.path()).state.trajectory.call, 10);
  EXPECT_TRUE(file.keep());
  EXPECT_EQ(read_job(file.path()).state.trajectory.call, 11);
  file.remove();
  EXPECT_FALSE(std::filesystem::exists(file.path()));
}

TEST(JobFile, IsWrittenWhenDenoisedWhateverTheCadence) {
  const TempFolder folder;
  JobFile file(folder / "x.job", {.seconds = 3600, .steps = 0});
  Job job = half_done();
  job.latents[1] = job.latents[0], job.state = {}, job.generators.clear(), job.is_denoised = true;
  file.note(job);
  EXPECT_TRUE(read_job(file.path()).is_denoised);
}

TEST(JobFile, OfAJobThatGoesOnIsThereBeforeTheFirstStep) {
  const TempFolder folder;
  write_job(folder / "x.job", half_done());
  JobFile file(folder / "x.job", {});
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(gone, nullptr, 0), gone);
  const auto temporary = [&](pid_t process) { return folder / (".x.tmp-" + std::to_string(process) + "-0.job"); };
  write_file(temporary(gone), "left by a kill");
  write_file(temporary(::getpid()), "still being written");
  file.begin_with(half_done());
  EXPECT_FALSE(std::filesystem::exists(temporary(gone)));
  EXPECT_TRUE(std::filesystem::exists(temporary(::getpid())));
  EXPECT_TRUE(file.keep());
  JobFile none({}, {});
  none.begin_with(half_done());
  EXPECT_FALSE(none.keep());
}

TEST(JobFile, WhatCannotBeWrittenIsOneWarning) {
  int warnings = 0;
  set_log_sink([&](LogLevel level, std::string_view) { warnings += level == LogLevel::warn; });
  JobFile file("/proc/nowhere/x.job", {.seconds = 60, .steps = 1});
  file.note(half_done());
  file.note(half_done());
  set_log_sink({});
  EXPECT_EQ(warnings, 1);
  EXPECT_FALSE(file.keep());
}

}  // namespace
}  // namespace kinora::video
