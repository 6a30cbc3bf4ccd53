// The program. What belongs to a process and not to a library is here: the allocator that counts, malloc's settings, signals.
#include <ATen/ATen.h>
#include <malloc.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <new>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/command.h"
#include "kinora/cli/ranks.h"
#include "kinora/cli/signals.h"
#include "kinora/tensor/allocator.h"
#include "kinora/tensor/libtorch.h"

namespace {

using namespace kinora;
using namespace kinora::cli;

constexpr size_t kMostMessageBytes = 1500;

/// One line, whatever was in the text: names and files of others may hold a terminal's escapes.
std::string line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return printable(text, kMostMessageBytes);
}

int complain(const std::string& what, const std::string& hint, int exit_code) {
  // In one piece: ranks share a terminal.
  std::cerr << concat("kinora: ", line(what), "\n", hint.empty() ? "" : "  " + line(hint) + "\n") << std::flush;
  return exit_code;
}

/// Tensors of some size are kept by their own pool; what else is large goes back when it is freed, so that the heap has no holes.
void keep_memory() {
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
  ::mallopt(M_TOP_PAD, 1 << 20);
}

/// On several threads MKL would share out a product of few rows along what it sums over, and one of many rows not: a
/// piece's rows or a rank's would differ from the whole's in last bits. It reads this at its first product.
void keep_bits() {
#if defined(__x86_64__)
  if (__builtin_cpu_is("intel") != 0)
    ::setenv("MKL_CBWR", "AUTO,STRICT", 0);  // for others it may have slow kernels only
#endif
}

int run(const Action& action, Ranks& ranks, std::vector<std::string> arguments) {
  check_libtorch();
  // Outlives every tensor: some live until the process ends.
  static Ledger* const ledger = new Ledger;
  install_counting_allocator(*ledger);
  install_bus_guard();
  CancelOnSignal signals;
  Context context{*ledger, signals.token(), signals, ranks, std::move(arguments)};
  try {
    const int exit_code = action(context);
    throw_if_file_was_cut();
    std::cout.flush();
    if (!std::cout) throw ResourceError("the results could not be written to standard output");
    ranks.finish();
    return exit_code;
  } catch (...) {
    throw_if_file_was_cut();  // the cause of whatever else was seen
    throw;
  }
}

constexpr const char* kMemoryHint = "take smaller sizes (frames, height, width, batch), or free memory";
constexpr const char* kBugHint = "this is a bug of kinora: please report it with the command that you gave";

/// What the exception that is being handled has to say.
comm::Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return comm::failure_of(error);
  } catch (const c10::OutOfMemoryError&) {
    return {"out of memory", kMemoryHint, ResourceError("").exit_code()};
  } catch (const c10::Error& error) {
    return {error.what_without_backtrace(), kBugHint, kBugExitCode};
  } catch (const std::filesystem::filesystem_error& error) {
    // A folder that this user may not look into, a loop of links.
    return {concat("'", error.path1().string(), "' cannot be used: ", error.code().message()),
            "see whether this user may look into it, and into the folders above", ResourceError("").exit_code()};
  } catch (const std::bad_alloc&) {
    return {"out of memory", kMemoryHint, ResourceError("").exit_code()};
  } catch (const std::exception& error) {
    return {error.what(), kBugHint, kBugExitCode};
  }
}

int guarded(const Action& action, std::vector<std::string> arguments) {
  Ranks ranks;
  try {
    return run(action, ranks, std::move(arguments));
  } catch (const std::exception&) {
    const comm::Failure failure = current_failure();
    if (ranks.speaks(failure)) complain(failure.what, failure.hint, failure.exit_code);
    ranks.end_all(failure);
    return failure.exit_code;
  }
}

/// "kinora bench gemm" and its parser, as far as the command line named them.
std::pair<std::string, const CLI::App*> chosen(const CLI::App& app) {
  std::string name = app.get_name();
  const CLI::App* last = &app;
  for (auto next = last->get_subcommands(); !next.empty(); next = last->get_subcommands()) {
    last = next.front();
    name += " " + last->get_name();
  }
  return {name, last};
}

/// The parser takes `--seed ""` for an option that was not given.
void refuse_empty_values(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    const auto& values = option->results();
    if (!option->get_positional() && std::find(values.begin(), values.end(), "") != values.end())
      throw UsageError(option->get_name() + " has no value", "give one, or leave the option out");
  }
}

}  // namespace

int main(int argc, char** argv) {
  keep_memory();
  keep_bits();
  make_signals_write_errors();
  CLI::App app("Kinora makes video from text.\n\n  kinora generate \"a red ball moves to the right on grass\"\n",
               "kinora");
  app.set_version_flag("--version", "kinora " KINORA_VERSION);
  app.require_subcommand(0, 1);
  app.failure_message(CLI::FailureMessage::simple);
  Action action;
  add_generate(app, action);
  add_batch(app, action);
  add_plan(app, action);
  add_calibrate(app, action);
  add_eval(app, action);
  add_plot(app, action);
  add_inspect(app, action);
  add_doctor(app, action);
  add_train(app, action);
  add_verify(app, action);
  add_data(app, action);
  add_bench(app, action);
  add_launch(app, action);
  add_completion(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    const auto [command, last] = chosen(app);
    const auto unknown = last->remaining();
    // Of a group such as bench the parser would only say that a command is missing.
    const bool is_group = !last->get_subcommands({}).empty();
    return complain(is_group && !unknown.empty() ? concat("there is no ", command, " ", unknown.front()) : error.what(),
                    command + " --help shows what it takes", UsageError("").exit_code());
  }
  if (!action) {
    std::cout << app.help();
    return 0;
  }
  const auto checked = [&](Context& context) {
    refuse_empty_values(*chosen(app).second);
    return action(context);
  };
  return guarded(checked, {argv + 1, argv + argc});
}
