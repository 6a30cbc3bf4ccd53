// Starting ranks and waiting for them: what they write, how they end, and that nothing of them stays.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kinora/cli/command.h"
#include "kinora/comm/communicator.h"

namespace kinora::cli {

struct LaunchRequest {
  int64_t ranks = 0;
  std::vector<std::string> command;  ///< "kinora" is this program
  std::string hosts_file;            ///< empty: this host
  std::optional<double> deadline_s;  ///< of every wait of a rank for others; nothing: KINORA_DEADLINE, or 60
  std::string records_folder;        ///< where records of errors are kept; empty: nowhere
};

/// Runs the command on all ranks and returns its exit code: that of the first rank that failed. Rank 0's output passes as
/// it is, lines of others get "rank N: " in front. The first stop request (Ctrl-C) reaches all ranks, which end after
/// their step; the second ends them at once.
/// Throws UsageError for no command or fewer than 1 rank, DataError for a hosts file that cannot be read, ResourceError
/// where there is no mpirun or a host does not answer.
int launch(const LaunchRequest& request, Context& context);

/// This program with these arguments on so many ranks of this host: the short form of a command's --ranks.
int launch_self(int64_t ranks, const std::vector<std::string>& arguments, Context& context);

/// What a command with --ranks does: in a process that was started alone it calls `check`, so that what cannot be is said
/// once and before anything starts, and starts itself `ranks` times; else it joins the ranks that run already and calls
/// `work` on each. 0: as many as there are. Throws UsageError where others run.
int on_ranks(int64_t ranks, Context& context, const std::function<void()>& check,
             const std::function<int(comm::Communicator&)>& work);

}  // namespace kinora::cli
