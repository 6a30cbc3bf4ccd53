#include "kinora/comm/mpi.h"

#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/base/log.h"
#include "kinora/comm/mpi_transport.h"
#include "kinora/comm/shared_memory.h"

namespace kinora::comm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kCancelled = 130;
constexpr milliseconds kRankZeroFirst{300};
constexpr milliseconds kCauseFirst{1000};
constexpr milliseconds kUntilKilled{3000};  // by the rank that failed first

/// What ranks know of each other before there is a board. Plain bytes.
struct Greeting {
  uint64_t host = 0, program = 0;
  int32_t rank = 0, size = 0;  ///< as the variables say
  std::array<char, 64> version{}, board{};
};

template <size_t N>
void put(std::array<char, N>& to, const std::string& text) {
  text.copy(to.data(), N - 1);
}

uint64_t checksum_of_program() {
  try {
    const MappedFile file("/proc/self/exe");
    return crc32(file.bytes());
  } catch (const Error&) {  // no /proc
    return 0;
  }
}

/// Ends this process when MPI, whose own waits have no end, does not come back.
class Alarm {
 public:
  explicit Alarm(milliseconds after) { ::alarm(static_cast<unsigned>(after.count() / 1000 + 1)); }
  ~Alarm() { ::alarm(0); }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;
};

void start_mpi(milliseconds deadline) {
  // MPI has handlers of its own; the program's one for files that are cut stays.
  struct sigaction bus {};
  ::sigaction(SIGBUS, nullptr, &bus);
  int level = 0;
  {
    const Alarm alarm(deadline);
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level), "starting MPI");
  }
  ::sigaction(SIGBUS, &bus, nullptr);
  if (level < MPI_THREAD_SERIALIZED) throw ResourceError("this MPI cannot be called from more than one thread");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

/// Everyone's value, before there is anything better to exchange it with.
template <typename T>
std::vector<T> gather(const T& mine, int ranks, milliseconds deadline) {
  std::vector<T> all(static_cast<size_t>(ranks));
  MPI_Request request;
  constexpr int size = sizeof(T);
  check_mpi(MPI_Iallgather(&mine, size, MPI_BYTE, all.data(), size, MPI_BYTE, MPI_COMM_WORLD, &request),
            "the first exchange of the ranks");
  const auto begin = Clock::now();
  for (int is_done = 0; is_done == 0;) {
    check_mpi(MPI_Test(&request, &is_done, MPI_STATUS_IGNORE), "the first exchange of the ranks");
    if (is_done != 0) break;
    if (Clock::now() - begin > deadline)
      throw DeadlineError(concat("not all of the ", ranks, " ranks have come within ",
                                 static_cast<double>(deadline.count()) / 1000, " s"),
                          "see what holds them up; KINORA_DEADLINE sets how many seconds ranks wait");
    if (Clock::now() - begin < milliseconds(1))
      ::sched_yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return all;
}

void require_places(const std::vector<Greeting>& all, const std::string& starter) {
  const auto size = static_cast<int>(all.size());
  for (int r = 0; r < size; ++r) {
    const Greeting& g = all[static_cast<size_t>(r)];
    if (g.rank == r && g.size == size) continue;
    throw PeerError(concat(starter, " started a process as rank ", g.rank, " of ", g.size, ", but MPI has it as rank ",
                           r, " of ", size),
                    "start ranks with kinora launch, with the mpirun of Open MPI, or with srun --mpi=pmix");
  }
}

void require_one_program(const std::vector<Greeting>& all) {
  for (size_t r = 1; r < all.size(); ++r) {
    const Greeting &zero = all[0], &other = all[r];
    if (zero.version != other.version)
      throw PeerError(concat("ranks run different versions: rank 0 has ", zero.version.data(), ", rank ", r, " has ",
                             other.version.data()),
                      "install the same kinora on all hosts");
    if (zero.program != other.program)
      throw PeerError(concat("rank 0 and rank ", r, " run different builds of version ", zero.version.data()),
                      "install the same kinora on all hosts");
  }
}

/// The board of this host: its first rank makes it, and takes its name away when all have it.
SharedMemory share_board(const std::vector<Greeting>& all, int rank, milliseconds deadline) {
  const auto me = static_cast<size_t>(rank);
  const auto first = std::find_if(all.begin(), all.end(), [&](const Greeting& g) { return g.host == all[me].host; });
  const std::string name = first->board.data();
  const size_t bytes = Board::bytes(static_cast<int>(all.size()));
  const bool is_first = first == all.begin() + rank;
  std::vector<SharedMemory> memory;  // one, once it is there
  std::string trouble;
  const auto attempt = [&](bool is_mine, auto&& f) {
    try {
      if (is_mine) memory.push_back(f());
    } catch (const Error& error) {
      trouble = error.what();
    }
    std::array<char, 256> said{};
    put(said, trouble);
    const auto troubles = gather(said, static_cast<int>(all.size()), deadline);
    for (size_t r = 0; r < troubles.size(); ++r) {
      if (troubles[r][0] != '\0') throw ResourceError(concat("rank ", r, ": ", troubles[r].data()));
    }
  };
  attempt(is_first, [&] { return SharedMemory::create(name, bytes); });
  attempt(!is_first, [&] { return SharedMemory::open(name, bytes); });
  memory.front().forget();
  return std::move(memory.front());
}

class MpiWorld final : public World {
 public:
  MpiWorld(const std::vector<Greeting>& all, int rank, const JoinOptions& options)
      : memory_(share_board(all, rank, options.deadline)), deadline_(options.deadline) {
    std::vector<bool> is_near;
    for (const Greeting& g : all) is_near.push_back(g.host == all[static_cast<size_t>(rank)].host);
    ranks_of_host_ = static_cast<int>(std::count(is_near.begin(), is_near.end(), true));
    rank_of_host_ = static_cast<int>(std::count(is_near.begin(), is_near.begin() + rank, true));
    auto transport =
        std::make_shared<MpiTransport>(Board(memory_.data(), static_cast<int>(all.size()), rank), std::move(is_near));
    board_ = &transport->board();
    board_->come();
    all_ = exchange(std::move(transport), {.deadline = options.deadline, .check = options.check});
  }
  ~MpiWorld() override {
    if (!is_over_) board_->leave(Presence::failed);
  }
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  Communicator& all() override { return *all_; }
  int ranks_of_host() const override { return ranks_of_host_; }
  int rank_of_host() const override { return rank_of_host_; }

  void finish() override {
    all_->barrier("end of the program");
    board_->leave(Presence::finished);
    is_over_ = true;
    const Alarm alarm(deadline_);
    MPI_Finalize();
  }

  bool speaks(const Failure& failure) override {
    const bool is_first = !somebody_has_failed();
    // Ranks that stop together may still be on the way to their last exchange.
    if (failure.exit_code != kCancelled) board_->leave(Presence::failed);
    const auto until = Clock::now() + patience(failure, is_first);
    while (Clock::now() < until && !board_->speech_is_claimed()) std::this_thread::sleep_for(milliseconds(5));
    return board_->claim_speech();
  }

  void end_all(const Failure& failure) override {
    write_record(failure);
    board_->leave(Presence::failed);
    is_over_ = true;
    if (!board_->claim_speech()) std::this_thread::sleep_for(kUntilKilled);
    MPI_Abort(MPI_COMM_WORLD, failure.exit_code);
  }

  void plain_all_reduce(const Tensor& values) override {
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data_ptr<float>(), static_cast<int>(values.numel()), MPI_FLOAT,
                            MPI_SUM, MPI_COMM_WORLD),
              "MPI_Allreduce");
  }

 private:
  /// How long others may speak before this rank does.
  milliseconds patience(const Failure& failure, bool is_first) const {
    const bool is_zero = board_->rank() == 0;
    if (failure.is_everyones) return is_zero ? milliseconds(0) : kCauseFirst;
    // What was asked for wrongly is wrong on all ranks: rank 0 says it.
    const auto behind_zero = is_zero ? milliseconds(0) : kRankZeroFirst;
    const bool may_follow = failure.exit_code == PeerError("").exit_code() ||
                            failure.exit_code == DeadlineError("").exit_code() || failure.exit_code == kCancelled;
    if (!may_follow) return behind_zero;
    return kRankZeroFirst + behind_zero + (is_first ? milliseconds(0) : kCauseFirst);
  }

  /// Another rank of this host: then an error of this one may be its consequence.
  bool somebody_has_failed() const {
    for (int r = 0; r < board_->ranks(); ++r) {
      if (r != board_->rank() && board_->presence(r) == Presence::failed) return true;
    }
    return false;
  }

  void write_record(const Failure& failure) const {
    const char* folder = std::getenv("KINORA_RECORDS");
    if (folder == nullptr || *folder == '\0') return;
    Json calls = Json::array();
    for (const Call& call : board_->calls(board_->rank())) calls.push_back(describe(call));
    const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    const Json record{
        {"rank", board_->rank()}, {"exit_code", failure.exit_code}, {"error", failure.what},    {"hint", failure.hint},
        {"unix_time_s", now},     {"process", ::getpid()},          {"last_collectives", calls}};
    try {
      write_file(std::filesystem::path(folder) / concat("rank-", board_->rank(), ".json"),
                 record.dump(2, ' ', true, Json::error_handler_t::replace) + "\n");
    } catch (const Error& error) {  // the error itself is what matters
      log_warn(concat("no record of this error: ", error.what()));
    }
  }

  SharedMemory memory_;
  milliseconds deadline_;
  std::unique_ptr<Communicator> all_;
  Board* board_ = nullptr;
  int ranks_of_host_ = 1, rank_of_host_ = 0;
  bool is_over_ = false;
};

}  // namespace

bool has_mpi() { return true; }

std::unique_ptr<World> join(const Place& place, const JoinOptions& options) {
  remove_leftovers();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // mpirun's end, whatever ends it, is the end of its ranks
  start_mpi(options.deadline);
  int rank = 0, size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  try {
    Greeting mine{
        .host = shared_memory_key(), .program = checksum_of_program(), .rank = place.rank, .size = place.size};
    put(mine.version, options.version);
    put(mine.board, board_name());
    const auto all = gather(mine, size, options.deadline);
    require_places(all, place.starter);
    require_one_program(all);
    return std::make_unique<MpiWorld>(all, rank, options);
  } catch (const Error&) {
    // Most of these are the same on all ranks: rank 0 says it, and its end is theirs.
    if (rank != 0) std::this_thread::sleep_for(kUntilKilled);
    throw;
  }
}

}  // namespace kinora::comm
