// Starting ranks with Open MPI's mpirun: its command line and variables, and what its output means. No process is
// started here: the program does that (cli/launch.h).
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kinora::comm {

struct Host {
  std::string name;
  int slots = 1;
  friend bool operator==(const Host&, const Host&) = default;
};

/// One host a line, as Open MPI's host files: "name", "name slots=4"; '#' begins a comment. `what` names the file in
/// errors. Throws DataError.
std::vector<Host> read_hosts(std::string_view text, std::string_view what);

struct Launch {
  int ranks = 1;
  std::vector<std::string> command;
  std::filesystem::path mpirun, folder;  ///< folder: for everything that a job of this host writes
  std::vector<Host> hosts;               ///< none: this one, or those of the batch system
  bool is_elsewhere = false;             ///< on other hosts too, by `hosts` or a batch system
  bool is_root = false, is_terminal = false;
  int cores = 1;  ///< of this host
  std::optional<double> deadline_s;
};

/// What follows the program's name. With `hosts`, Launch::folder holds the file "hosts".
std::vector<std::string> mpirun_arguments(const Launch& launch);
/// For mpirun alone; what `variable` has already is the user's and stays.
std::vector<std::pair<std::string, std::string>> mpirun_variables(
    const Launch& launch, const std::function<const char*(const char*)>& variable);
/// Where ranks leave records of their errors: mpi.h.
std::filesystem::path records_folder(const Launch& launch);
/// The host file's content.
std::string hosts_file(const std::vector<Host>& hosts);

/// Takes apart what `mpirun --tag-output` writes on one of its streams: "[1,2]<stderr>:text". A tag stands at the
/// beginning of each line and of each piece that a rank wrote; lines without one are mpirun's own.
class TaggedOutput {
 public:
  /// -1: mpirun. Text may be part of a line.
  using Take = std::function<void(int rank, std::string_view text)>;
  void add(std::string_view bytes, const Take& take);
  void finish(const Take& take);

 private:
  void read(const Take& take, bool is_end);
  std::string rest_;
  int rank_ = -1;
  bool is_at_line_start_ = true;
};

/// Whether a line of mpirun is one of the reports of states that it is asked for, and the rank that it says did not end
/// well; -1: any other state.
std::optional<int> read_state(std::string_view line);

/// How the first rank ended that did not end well, from mpirun's own words and exit code.
struct RankEnd {
  int rank = -1;   ///< mpirun does not always say it in its words; its reports of states do
  int signal = 0;  ///< that killed it, or 0
  int exit_code = 0;
  bool is_early = false;  ///< with code 0, but before the others were done with it
};
std::optional<RankEnd> read_rank_end(std::string_view mpirun_words, int code);
/// "rank 2 was killed by signal 9", "rank 2 ended with exit code 3".
std::string describe(const RankEnd& end);

/// Of mpirun's words the lines that say something, at most `most`: no rules, no empty lines.
std::string telling_lines(std::string_view mpirun_words, size_t most);

}  // namespace kinora::comm
