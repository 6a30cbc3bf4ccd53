// What the commands share: each adds itself to the parser and leaves in `action` what is to be done once it was chosen.
#pragma once

#include <c10/core/Device.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/tensor/ledger.h"

namespace kinora::cli {

class CancelOnSignal;
class Ranks;

struct Context {
  Ledger& ledger;          ///< counts every CPU tensor
  std::stop_token cancel;  ///< Ctrl-C
  CancelOnSignal& signals;
  Ranks& ranks;                        ///< the processes that run this command together, once it joins them
  std::vector<std::string> arguments;  ///< as they were given, behind the program's name
};

/// Returns the exit code; throws kinora errors.
using Action = std::function<int(Context&)>;

void add_generate(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_data(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_calibrate(CLI::App& app, Action& action);
void add_batch(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_plot(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);
void add_launch(CLI::App& app, Action& action);
void add_completion(CLI::App& app, Action& action);

/// --threads: of the operators; 0: LibTorch's choice. use_threads throws UsageError below 0 or above 1024.
void add_threads(CLI::App& command, int64_t& threads);
void use_threads(int64_t threads);

/// --device: where the operators run.
void add_device(CLI::App& command, std::string& device);

/// "cpu", "cuda" (the first) or "cuda:N". Throws UsageError for another name, ResourceError for a device that this build
/// or this machine does not have.
c10::Device parse_device(const std::string& name);

/// "8GB", "6.5 GB", "512M", "4GiB" or bytes; "" is 0. Throws UsageError.
uint64_t parse_bytes(const std::string& text);

/// 0 .. 2^64 - 1. Throws UsageError.
uint64_t parse_seed(const std::string& text);

/// One line on stdout, ASCII.
void print_json(const Json& json);

}  // namespace kinora::cli
