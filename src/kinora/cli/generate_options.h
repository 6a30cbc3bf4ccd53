// What a user says to `kinora generate`, and what follows from it before any model is looked at.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kinora/cli/model_options.h"
#include "kinora/cli/request_options.h"
#include "kinora/video/job.h"

namespace kinora::cli {

struct GenerateOptions {
  ModelOptions model;
  RequestOptions request;
  std::string seed, output = "out.mp4", prompts_file;
  std::string image, extend, save_latents, from_latents, checkpoint_every, trace;
  std::vector<std::string> references, join;
  std::optional<double> aesthetic, motion;
  std::optional<std::string> camera;
  int64_t threads = 0, preview = 0;
  bool json = false, resume = false, keep_preview = false, check = false;
};

void add_generate_options(CLI::App& command, GenerateOptions& options);

/// What every rank finds out from the options by itself.
struct Asked {
  std::filesystem::path output, job_path;
  video::Request request;
  video::Job job;  ///< that the run begins with
  bool only_decodes;
};

/// Throws UsageError for options that do not fit together, DataError and UsageError for files that they name.
Asked read_options(GenerateOptions& options);

/// --checkpoint-every: "30s" by time, "5" by steps. Throws UsageError.
video::JobCadence parse_cadence(const std::string& text);

}  // namespace kinora::cli
