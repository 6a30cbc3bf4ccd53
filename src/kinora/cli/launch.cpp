// kinora launch: a command on many ranks, by Open MPI's mpirun.
#include "kinora/cli/launch.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <system_error>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/progress.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/mpirun.h"
#include "kinora/cli/rank_output.h"
#include "kinora/cli/ranks.h"
#include "kinora/cli/signals.h"
#include "kinora/comm/launcher.h"
#include "kinora/comm/place.h"
#include "kinora/comm/shared_memory.h"
#include "kinora/media/process.h"

namespace kinora::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr int64_t kMostRanks = 4096;
constexpr auto kUntilTerminated = 1500ms;  // mpirun gives its ranks a second

const char* variable(const char* name) { return std::getenv(name); }

/// A folder of this job, gone with it. A launcher that is killed leaves it to the next one.
class JobFolder {
 public:
  JobFolder() : path_(comm::shared_memory_folder() / comm::job_name()) {
    comm::remove_leftovers();
    std::error_code error;
    fs::create_directories(path_ / "records", error);
    if (!error) fs::permissions(path_, fs::perms::owner_all, error);
    if (error) throw ResourceError(concat("cannot make the folder '", path_.string(), "': ", error.message()));
  }
  ~JobFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  JobFolder(const JobFolder&) = delete;
  JobFolder& operator=(const JobFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Reads until both streams have ended or mpirun has; passes stop requests on. -> mpirun's exit code.
int follow(Mpirun& mpirun, RankOutput& output, CancelOnSignal& signals) {
  std::array<pollfd, 2> polls{{{mpirun.fds()[0], POLLIN, 0}, {mpirun.fds()[1], POLLIN, 0}}};
  const auto read_some = [&](int timeout_ms) {
    if (::poll(polls.data(), polls.size(), timeout_ms) <= 0) return false;
    bool got_some = false;
    for (size_t i = 0; i < polls.size(); ++i) {
      if (polls[i].revents == 0) continue;
      std::array<char, 1 << 16> bytes;
      const ssize_t got = ::read(polls[i].fd, bytes.data(), bytes.size());
      if (got > 0) output.add(static_cast<int>(i), {bytes.data(), static_cast<size_t>(got)});
      if (got == 0) polls[i].fd = -1;
      got_some = got_some || got > 0;
    }
    return got_some;
  };
  int passed_on = 0;
  std::optional<Clock::time_point> terminated;
  for (;;) {
    read_some(20);
    if (signals.count() >= 1 && passed_on == 0) {
      log_info("stopping after this step; again: at once");
      mpirun.signal(SIGUSR1);  // mpirun hands it to every rank; SIGTERM it would follow with SIGKILL in a second
      passed_on = 1;
    }
    if (signals.count() >= 2 && passed_on == 1) {
      mpirun.signal(SIGTERM);
      terminated = Clock::now();
      passed_on = 2;
    }
    if (terminated && Clock::now() - *terminated > kUntilTerminated) mpirun.signal(SIGKILL);
    if (const auto code = mpirun.ended()) {
      while (read_some(0)) {
      }
      output.finish();
      return *code;
    }
  }
}

int cores() {
  cpu_set_t set;
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

bool is_here(const comm::Host& host) {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return host.name == "localhost" || host.name == "127.0.0.1" || host.name == name.data();
}

/// A host that does not let us in would have mpirun wait, or say so in a page of words.
void require_hosts(const std::vector<comm::Host>& hosts) {
  std::vector<std::pair<std::string, std::unique_ptr<media::Process>>> probes;
  for (const comm::Host& host : hosts) {
    if (is_here(host)) continue;
    if (media::find_program("ssh").empty())
      throw ResourceError(concat("there is no ssh to reach ", host.name), "install openssh-client");
    const auto timeout = media::find_program("timeout");  // of coreutils
    probes.emplace_back(host.name, std::make_unique<media::Process>(
                                       timeout.empty() ? "/usr/bin/timeout" : timeout,
                                       std::vector<std::string>{"--signal=KILL", "15", "ssh", "-o", "BatchMode=yes",
                                                                "-o", "ConnectTimeout=10", host.name, "true"},
                                       media::ProcessOptions{}));
  }
  for (const auto& [name, probe] : probes) {
    if (probe->wait() == 0) continue;
    const std::string why = probe->last_error_line();
    throw ResourceError(concat("host ", name, " does not answer", why.empty() ? " within 15 s" : ": ", why),
                        concat("see that 'ssh ", name, " true' works without a password"));
  }
}

std::vector<std::string> found_command(std::vector<std::string> command) {
  if (command.empty())
    throw UsageError("there is no command to launch", "write it behind --: kinora launch -n 2 -- COMMAND");
  const fs::path program =
      command[0] == "kinora" ? fs::read_symlink("/proc/self/exe") : media::find_program(command[0]);
  if (program.empty())
    throw UsageError(concat("there is no program '", printable(command[0]), "'"),
                     "give its path, or see that PATH has it");
  command[0] = program.string();
  return command;
}

void keep_records(const fs::path& from, const std::string& to) {
  if (to.empty() || fs::is_empty(from)) return;
  fs::create_directories(to);
  fs::copy(from, to, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  log_info(concat("records of the errors are in ", to));
}

comm::Launch planned(const LaunchRequest& request) {
  if (const auto place = comm::find_place(variable))
    throw UsageError(concat("this is rank ", place->rank, " of ", place->size, " already"),
                     "launch is for the command that starts the ranks");
  if (request.ranks < 1 || request.ranks > kMostRanks)
    throw UsageError(concat("there cannot be ", request.ranks, " ranks"), concat("choose 1 to ", kMostRanks));
  if (request.deadline_s && !(*request.deadline_s >= 0.001 && *request.deadline_s <= 86400))
    throw UsageError("--deadline is no time to wait", "choose 0.001 to 86400 seconds");
  comm::deadline_or(variable, 1s);
  comm::checks_always(variable);
  comm::Launch launch{.ranks = static_cast<int>(request.ranks), .command = found_command(request.command)};
  launch.mpirun = media::find_program("mpirun");
  if (launch.mpirun.empty()) throw ResourceError("there is no mpirun to start ranks with", "install openmpi-bin");
  if (!request.hosts_file.empty())
    launch.hosts = comm::read_hosts(read_file(request.hosts_file, 1 << 20), request.hosts_file);
  const bool is_batch =
      launch.hosts.empty() &&
      (variable("SLURM_JOB_ID") != nullptr || variable("PBS_NODEFILE") != nullptr || variable("LSB_JOBID") != nullptr);
  launch.is_elsewhere = is_batch || !std::all_of(launch.hosts.begin(), launch.hosts.end(), is_here);
  launch.is_root = ::geteuid() == 0;
  launch.is_terminal = is_terminal(2);
  launch.cores = cores();
  launch.deadline_s = request.deadline_s;
  return launch;
}

/// What to say of an end that no rank has explained.
[[noreturn]] void throw_end(const RankOutput& output, int code) {
  auto end = comm::read_rank_end(output.mpirun_words(), code);
  if (end && end->rank < 0) end->rank = output.failed_rank();
  if (end) throw Error(comm::describe(*end) + ", and all ranks with it", output.last_words(end->rank), code);
  const std::string words = comm::telling_lines(output.mpirun_words(), 4);
  throw ResourceError(concat("mpirun ended with code ", code, words.empty() ? "" : ": ", words));
}

}  // namespace

int launch(const LaunchRequest& request, Context& context) {
  comm::Launch launch = planned(request);
  require_hosts(launch.hosts);
  const JobFolder folder;
  launch.folder = folder.path();
  if (!launch.hosts.empty()) write_file(launch.folder / "hosts", comm::hosts_file(launch.hosts));
  context.signals.keep_second();
  RankOutput output(launch.is_terminal);
  int code = 0;
  {
    Mpirun mpirun(launch.mpirun, comm::mpirun_arguments(launch), comm::mpirun_variables(launch, variable));
    code = follow(mpirun, output, context.signals);
  }
  if (code != 0) keep_records(comm::records_folder(launch), request.records_folder);
  if (output.is_broken()) throw ResourceError("the results could not be written to standard output");
  if (context.signals.count() >= 2) throw CancelledError();
  // A program that does not know SIGUSR1 was killed by it.
  if (context.signals.count() == 1 && code == 128 + SIGUSR1) throw CancelledError();
  if (code != 0 && !output.has_spoken()) throw_end(output, code);
  return code;
}

int launch_self(int64_t ranks, const std::vector<std::string>& arguments, Context& context) {
  LaunchRequest request{.ranks = ranks, .command = {"kinora"}};
  request.command.insert(request.command.end(), arguments.begin(), arguments.end());
  return launch(request, context);
}

int on_ranks(int64_t ranks, Context& context, const std::function<void()>& check,
             const std::function<int(comm::Communicator&)>& work) {
  if (ranks > 1 && !was_started_as_rank()) {
    check();
    return launch_self(ranks, context.arguments, context);
  }
  comm::Communicator& all = context.ranks.join();
  if (ranks > 0 && ranks != all.size())
    throw UsageError(concat("--ranks ", ranks, " on ", all.size(), " ranks that run already"), "leave --ranks out");
  return work(all);
}

void add_launch(CLI::App& app, Action& action) {
  auto o = std::make_shared<LaunchRequest>();
  CLI::App* c = app.add_subcommand("launch", "run a command on many ranks, here or on many hosts");
  c->footer("Example: kinora launch -n 2 -- kinora bench comm");
  c->add_option("-n,--ranks", o->ranks, "how many ranks")->required();
  c->add_option("--hosts", o->hosts_file, "file with one host a line: name, or name slots=4");
  c->add_option("--deadline", o->deadline_s, "seconds that a rank waits for others before it gives up (default: 60)");
  c->add_option("--records", o->records_folder, "keep what each rank wrote about its error in this folder");
  c->add_option("command", o->command, "behind --: the command; kinora is this program");
  c->callback([o, &action] { action = [o](Context& context) { return launch(*o, context); }; });
}

}  // namespace kinora::cli
