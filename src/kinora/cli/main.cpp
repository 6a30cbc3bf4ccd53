// The program. What belongs to a process and not to a library is here: the allocator that counts, malloc's settings, signals.
#include <ATen/ATen.h>
#include <malloc.h>

#include <iostream>
#include <new>

#include "kinora/base/error.h"
#include "kinora/cli/command.h"
#include "kinora/cli/signals.h"
#include "kinora/tensor/allocator.h"

namespace {

using namespace kinora;
using namespace kinora::cli;

constexpr size_t kMostMessageBytes = 1500;

/// One line, whatever was in the text.
std::string line(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  if (text.size() > kMostMessageBytes) text = text.substr(0, kMostMessageBytes) + " ...";
  return text;
}

int complain(const std::string& what, const std::string& hint, int exit_code) {
  std::cerr << "kinora: " << line(what) << "\n";
  if (!hint.empty()) std::cerr << "  " << line(hint) << "\n";
  return exit_code;
}

/// Large blocks stay with the process: a page fault for each page of each activation took half the time of some operators.
void keep_memory() {
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  ::mallopt(M_TOP_PAD, 16 << 20);
}

int run(const Action& action) {
  // Outlives every tensor: some live until the process ends.
  static Ledger* const ledger = new Ledger;
  install_counting_allocator(*ledger);
  install_bus_guard();
  const CancelOnSignal signals;
  Context context{*ledger, signals.token()};
  try {
    const int exit_code = action(context);
    throw_if_file_was_cut();
    std::cout.flush();
    if (!std::cout) return complain("the results could not be written to standard output", {}, 69);
    return exit_code;
  } catch (...) {
    throw_if_file_was_cut();  // the cause of whatever else was seen
    throw;
  }
}

constexpr const char* kBugHint = "this is a bug of kinora: please report it with the command that you gave";

int guarded(const Action& action) {
  try {
    return run(action);
  } catch (const Error& error) {
    return complain(error.what(), error.hint(), error.exit_code());
  } catch (const c10::OutOfMemoryError& error) {
    return complain("out of memory", "ask for fewer frames or a smaller size", ResourceError("").exit_code());
  } catch (const c10::Error& error) {
    return complain(error.what_without_backtrace(), kBugHint, kBugExitCode);
  } catch (const std::bad_alloc&) {
    return complain("out of memory", "ask for fewer frames or a smaller size", ResourceError("").exit_code());
  } catch (const std::exception& error) {
    return complain(error.what(), kBugHint, kBugExitCode);
  }
}

}  // namespace

int main(int argc, char** argv) {
  keep_memory();
  CLI::App app("Kinora makes video from text.\n\n  kinora generate \"a red ball moves to the right on grass\"\n",
               "kinora");
  app.set_version_flag("--version", "kinora " KINORA_VERSION);
  app.require_subcommand(0, 1);
  app.failure_message(CLI::FailureMessage::simple);
  Action action;
  add_generate(app, action);
  add_inspect(app, action);
  add_train(app, action);
  add_verify(app, action);
  add_data(app, action);
  add_bench(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::string command = "kinora";
    for (const CLI::App* chosen : app.get_subcommands()) command += " " + chosen->get_name();
    return complain(error.what(), command + " --help shows what it takes", UsageError("").exit_code());
  }
  if (!action) {
    std::cout << app.help();
    return 0;
  }
  return guarded(action);
}
