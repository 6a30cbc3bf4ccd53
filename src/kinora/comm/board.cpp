#include "kinora/comm/board.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <new>
#include <thread>
#include <type_traits>

#include "kinora/base/error.h"

namespace kinora::comm {
namespace {

constexpr size_t kHeadBytes = 64;
static_assert(sizeof(BoardHead) <= kHeadBytes && alignof(Slot) <= kHeadBytes);
static_assert(std::is_trivially_copyable_v<Call>);
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<Presence>::is_always_lock_free);

/// For a few words only. A rank that was killed inside never unlocks: after a while the others go on without.
class Locked {
 public:
  explicit Locked(std::atomic<uint32_t>& lock) : lock_(lock) {
    for (int i = 0; i < 10000 && lock_.exchange(1, std::memory_order_acquire) != 0; ++i) std::this_thread::yield();
  }
  ~Locked() { lock_.store(0, std::memory_order_release); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  std::atomic<uint32_t>& lock_;
};

uint64_t own_pid_space() {
  struct stat status {};
  return ::stat("/proc/self/ns/pid", &status) == 0 ? status.st_ino : 0;
}

}  // namespace

size_t Board::bytes(int ranks) { return kHeadBytes + sizeof(Slot) * static_cast<size_t>(ranks); }

Board::Board(void* memory, int ranks, int rank)
    : head_(std::launder(static_cast<BoardHead*>(memory))),
      slots_(std::launder(reinterpret_cast<Slot*>(static_cast<char*>(memory) + kHeadBytes))),
      ranks_(ranks),
      rank_(rank) {}

Slot& Board::slot(int rank) const { return slots_[rank]; }

void Board::come() {
  Slot& mine = slot(rank_);
  mine.pid_space.store(own_pid_space());
  mine.pid.store(::getpid());
  mine.presence.store(Presence::working);
}

void Board::leave(Presence how) { slot(rank_).presence.store(how); }

void Board::write(const Call& call) {
  Slot& mine = slot(rank_);
  const Locked locked(mine.lock);
  const uint64_t n = mine.num_calls.load(std::memory_order_relaxed);
  mine.calls[n % kCallsKept] = call;
  mine.num_calls.store(n + 1, std::memory_order_relaxed);
}

Presence Board::presence(int rank) const { return slot(rank).presence.load(); }

std::vector<Call> Board::calls(int rank) const {
  Slot& s = slot(rank);
  const Locked locked(s.lock);
  const uint64_t n = s.num_calls.load(std::memory_order_relaxed);
  std::vector<Call> out;
  for (uint64_t i = n > kCallsKept ? n - kCallsKept : 0; i < n; ++i) out.push_back(s.calls[i % kCallsKept]);
  return out;
}

std::optional<Call> Board::find(int rank, uint64_t group, int64_t channel, int64_t sequence) const {
  Slot& s = slot(rank);
  const Locked locked(s.lock);
  const uint64_t n = s.num_calls.load(std::memory_order_relaxed);
  for (uint64_t i = n; i > 0 && n - i < kCallsKept; --i) {  // the latest is the likeliest
    const Call& call = s.calls[(i - 1) % kCallsKept];
    if (call.group == group && call.channel == channel && call.sequence == sequence) return call;
  }
  return std::nullopt;
}

/// The letter of /proc/PID/stat; 'X' when there is no such process, ' ' when nobody can know.
char Board::process_state(int rank) const {
  const Slot& s = slot(rank);
  const int pid = s.pid.load();
  if (pid == 0 || s.pid_space.load() != own_pid_space()) return ' ';
  std::ifstream file(concat("/proc/", pid, "/stat"));
  std::string text;
  if (!std::getline(file, text)) return 'X';
  const size_t end = text.rfind(')');  // the program's name may hold anything
  return end != std::string::npos && end + 2 < text.size() ? text[end + 2] : ' ';
}

bool Board::has_gone(int rank) const {
  if (presence(rank) != Presence::working) return false;
  const char state = process_state(rank);
  return state == 'X' || state == 'Z';
}

std::string Board::news(int rank) const {
  const std::string who = concat("rank ", rank);
  switch (presence(rank)) {
    case Presence::absent: return {};
    case Presence::finished: return who + " has finished";
    case Presence::failed: return who + " has failed";
    case Presence::working: break;
  }
  const char state = process_state(rank);
  const std::string process = concat(who, " (process ", slot(rank).pid.load(), ")");
  if (state == 'X' || state == 'Z') return process + " has gone";
  if (state == 'T' || state == 't') return process + " is stopped";
  const auto last = calls(rank);
  return last.empty() ? who + " has called nothing yet" : concat(who, " last called ", describe(last.back()));
}

bool Board::claim_speech() {
  int32_t nobody = 0;
  return head_->speaker.compare_exchange_strong(nobody, rank_ + 1) || nobody == rank_ + 1;
}

bool Board::speech_is_claimed() const { return head_->speaker.load() != 0; }

}  // namespace kinora::comm
