// What a run has done so far, as a value and as a file: finished latents, and the group of clips in the making with the
// state of its random generators. From it a run goes on to the same bytes, and latents are decoded without denoising.
#pragma once

#include <ATen/ATen.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/diffusion/sampler.h"

namespace kinora::video {

struct Job {
  Json settings = Json::object();      ///< Pipeline::settings: what a resume must share
  int64_t batch = 1;                   ///< clips at a time; another number would change last bits
  std::vector<at::Tensor> latents;     ///< of each clip: [C, passes done * T, h, w]; undefined before the first
  bool is_denoised = false;            ///< every pass of every clip is in `latents`
  int64_t pass = 0, first = 0;         ///< the group in the making: of clips first ..
  SampleState state;                   ///< latents [count, C, T, h, w]; undefined: none in the making
  std::vector<at::Tensor> generators;  ///< uint8 state of each of its clips' generators
};

/// One safetensors file, which appears whole or not at all; its metadata holds the settings as JSON. Throws ResourceError.
void write_job(const std::filesystem::path& path, const Job& job);
/// Throws UsageError when there is no such file, DataError for one that is damaged, no job, or not finite.
Job read_job(const std::filesystem::path& path);

/// UsageError naming the first setting in which the request differs from the job.
void check_same_settings(const Json& job, const Json& request);

/// How often a job is written, by time or by steps.
struct JobCadence {
  double seconds = 60;
  int64_t steps = 0;  ///< above 0: after every so many, whatever the time
};

/// Keeps a run's job in a file beside its output: now and then while it is denoised, and when it is denoised, before
/// anything is decoded. What cannot be written is one warning: the work goes on.
class JobFile {
 public:
  /// An empty path: nothing is kept.
  JobFile(std::filesystem::path path, JobCadence cadence);
  /// The job that a run goes on with is in the file already. What a killed run left of a write is removed.
  void begin_with(const Job& job);
  /// For Hooks::on_job.
  void note(const Job& job);
  /// Behind an error or a cancel: brings a file that is there up to date. Whether one is there.
  bool keep() noexcept;
  /// The clip is whole.
  void remove() noexcept;
  const std::filesystem::path& path() const { return path_; }
  const Job& last() const { return last_; }

 private:
  void write();
  std::filesystem::path path_;
  JobCadence cadence_;
  Job last_;
  int64_t steps_ = 0;
  bool is_written_ = false, is_current_ = false, has_failed_ = false;
  std::chrono::steady_clock::time_point written_at_ = std::chrono::steady_clock::now();
};

}  // namespace kinora::video
