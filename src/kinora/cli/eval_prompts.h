// kinora eval --cache: what caches do to a model's clips and seconds, over a list of prompts.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "kinora/cli/command.h"
#include "kinora/cli/model_options.h"
#include "kinora/cli/request_options.h"
#include "kinora/media/lpips.h"

namespace kinora::cli {

struct PromptsOptions {
  ModelOptions model;
  RequestOptions request;
  std::vector<std::string> caches;
  std::string prompts_file, seed = "1000";
  int64_t count = 0, repeats = 1, threads = 0;
};

/// --cache, which each of the others needs: --prompts, --count, --seed, --repeats, --threads, and those of the model and of how
/// a clip is made.
void add_prompts_options(CLI::App& command, PromptsOptions& options);

/// Each prompt plain and with every cache, at the same seed: rows on stdout as they come, and the means at the end. `lpips`:
/// nullptr for none. Throws as Pipeline, before any clip is made where a cache or a size cannot be.
int eval_prompts(const PromptsOptions& options, const media::Lpips* lpips, bool json, Context& context);

}  // namespace kinora::cli
