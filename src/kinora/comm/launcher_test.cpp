#include "kinora/comm/launcher.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kinora/base/error.h"

namespace kinora::comm {
namespace {

using Pieces = std::vector<std::pair<int, std::string>>;

/// What is taken from `text` when it comes in parts of `size` bytes; pieces of one rank are joined.
Pieces taken(std::string_view text, size_t size) {
  Pieces out;
  const auto take = [&](int rank, std::string_view piece) {
    if (out.empty() || out.back().first != rank) out.emplace_back(rank, "");
    out.back().second += piece;
  };
  TaggedOutput output;
  for (; !text.empty(); text.remove_prefix(std::min(size, text.size()))) output.add(text.substr(0, size), take);
  output.finish(take);
  return out;
}

TEST(Launcher, OutputIsTakenApartHoweverItArrives) {
  const std::string text =
      "[1,0]<stdout>:out a\n[1,0]<stdout>:out b[1,12]<stdout>:out [1,2] <x>\n[1,0]<stdout>: more\n"
      "-----\nmpirun has [1 word\n[1,0]<stdout>:\r50 %[1,0]<stdout>:\r60 %\n[1,12]<stdout>:end[1,";
  const Pieces want{{0, "out a\nout b"},   {12, "out [1,2] <x>\n"}, {0, " more\n"}, {-1, "-----\nmpirun has [1 word\n"},
                    {0, "\r50 %\r60 %\n"}, {12, "end[1,"}};
  for (const size_t size : {1, 2, 3, 7, 1000}) EXPECT_EQ(taken(text, size), want) << size;
}

TEST(Launcher, TheRankThatEndedTheRunIsReadFromMpirunsWords) {
  const auto abort =
      read_rank_end("MPI_ABORT was invoked on rank 2 in communicator MPI_COMM_WORLD\nwith errorcode 75.\n", 75);
  ASSERT_TRUE(abort);
  EXPECT_EQ(describe(*abort), "rank 2 ended with exit code 75");
  const auto killed =
      read_rank_end("mpirun noticed that process rank 1 with PID 4711 on node vm exited on signal 9 (Killed).", 137);
  ASSERT_TRUE(killed);
  EXPECT_EQ(describe(*killed), "rank 1 was killed by signal 9");
  const auto coded = read_rank_end("to do so was:\n\n  Process name: [[8756,1],3]\n  Exit code:    65\n-----", 65);
  ASSERT_TRUE(coded);
  EXPECT_EQ(describe(*coded), "rank 3 ended with exit code 65");
  const auto early =
      read_rank_end("mpirun has exited due to process rank 0 with PID 0 on\nnode vm exiting improperly.", 1);
  ASSERT_TRUE(early);
  EXPECT_EQ(describe(*early), "rank 0 ended before the others were done with it");
  const auto somebody =
      read_rank_end("Primary job  terminated normally, but 1 process returned\na non-zero exit code.", 7);
  ASSERT_TRUE(somebody);
  EXPECT_EQ(describe(*somebody), "a rank ended with exit code 7");
  const auto somebody_killed =
      read_rank_end("Primary job  terminated normally, but 1 process returned\na non-zero exit code.", 137);
  ASSERT_TRUE(somebody_killed);
  EXPECT_EQ(describe(*somebody_killed), "a rank was killed by signal 9");
  EXPECT_FALSE(read_rank_end("mpirun was unable to launch the specified application", 132));
  EXPECT_EQ(telling_lines("----\nA host\n\n  is not there.\nmore", 2), "A host   is not there.");
}

TEST(Launcher, TheRankThatFailedIsReadFromReportsOfStates) {
  const auto line = [](const char* what) {
    return concat("[vm:24600] [[3302,0],0] ACTIVATE ", what,
                  " AT ../../orte/mca/odls/base/odls_base_default_fns.c:1746");
  };
  for (const char* state :
       {"ABORTED BY SIGNAL", "CALLED ABORT", "EXITED WITH NON-ZERO STATUS", "TERMINATED WITHOUT SYNC"})
    EXPECT_EQ(read_state(line(concat("PROC [[3302,1],12] STATE ", state).c_str())), 12) << state;
  for (const char* other : {"PROC [[3302,1],1] STATE RUNNING", "PROC [[3302,1],1] STATE IOF COMPLETE",
                            "PROC [[3302,1],1] STATE KILLED BY INTERNAL COMMAND", "JOB [3254,1] STATE INIT_COMPLETE",
                            "JOB NULL STATE DAEMONS TERMINATED"})
    EXPECT_EQ(read_state(line(other)), -1) << other;
  for (const char* none : {"", "mpirun noticed that process rank 1", "[vm:24600] ACTIVATE PROC", "[1,0]<stderr>:x"})
    EXPECT_FALSE(read_state(none)) << none;
}

TEST(Launcher, HostFilesAreReadStrictly) {
  EXPECT_EQ(read_hosts("# two\nnode1 slots=4  # first\n\nnode-2.example\r\n", "hosts"),
            (std::vector<Host>{{"node1", 4}, {"node-2.example", 1}}));
  for (const char* bad : {"", "# none\n", "node1 slots=0", "node1 slots=x", "node1 4", "node1 slots=2 max", "-oProxy=x",
                          "node;rm", "a/b"})
    EXPECT_THROW(read_hosts(bad, "hosts"), DataError) << bad;
  EXPECT_EQ(hosts_file({{"a", 2}, {"b", 1}}), "a slots=2\nb slots=1\n");
}

std::string variable(const Launch& launch, const std::string& name, const char* given = nullptr) {
  for (const auto& [key, value] :
       mpirun_variables(launch, [&](const char* asked) { return asked == name ? given : nullptr; })) {
    if (key == name) return value;
  }
  return "-";
}

TEST(Launcher, ThreadsAreSharedUnlessTheUserChose) {
  EXPECT_EQ(variable({.ranks = 2, .cores = 8}, "OMP_NUM_THREADS"), "4");
  EXPECT_EQ(variable({.ranks = 8, .cores = 2}, "OMP_NUM_THREADS"), "1");
  EXPECT_EQ(variable({.ranks = 2, .cores = 8}, "OMP_NUM_THREADS", "3"), "-");
  EXPECT_EQ(variable({.ranks = 8, .hosts = {{"a", 4}, {"b", 4}}, .cores = 16}, "OMP_NUM_THREADS"), "4");
}

TEST(Launcher, OnlyRootIsAllowedToBeRoot) {
  EXPECT_EQ(variable({.is_root = true}, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1");
  EXPECT_EQ(variable({}, "OMPI_ALLOW_RUN_AS_ROOT"), "-");
}

TEST(Launcher, AJobOfOneHostKeepsToItsFolder) {
  const Launch here{.ranks = 2, .folder = "/dev/shm/job"};
  EXPECT_EQ(variable(here, "OMPI_MCA_btl_vader_backing_directory"), "/dev/shm/job");
  EXPECT_EQ(variable(here, "OMPI_MCA_orte_tmpdir_base"), "/dev/shm/job");
  EXPECT_EQ(variable(here, "KINORA_RECORDS"), "/dev/shm/job/records");
  const Launch there{.ranks = 2, .folder = "/dev/shm/job", .hosts = {{"a", 1}}, .is_elsewhere = true};
  EXPECT_EQ(variable(there, "OMPI_MCA_btl_vader_backing_directory"), "-");
  EXPECT_EQ(variable(there, "KINORA_RECORDS"), "-");
}

TEST(Launcher, TheCommandComesLastAndUntouched) {
  const auto words = mpirun_arguments({.ranks = 3, .command = {"kinora", "generate", "a b", "-n"}, .folder = "/f"});
  EXPECT_EQ((std::vector<std::string>(words.end() - 4, words.end())),
            (std::vector<std::string>{"kinora", "generate", "a b", "-n"}));
  EXPECT_EQ(std::count(words.begin(), words.end(), "-x"), 0);
  const auto far = mpirun_arguments({.command = {"x"}, .folder = "/f", .hosts = {{"a", 1}}, .is_elsewhere = true});
  EXPECT_NE(std::find(far.begin(), far.end(), "/f/hosts"), far.end());
}

}  // namespace
}  // namespace kinora::comm
