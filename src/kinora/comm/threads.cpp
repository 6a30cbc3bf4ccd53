#include "kinora/comm/threads.h"

#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <tuple>
#include <utility>

#include "kinora/base/error.h"

namespace kinora::comm {
namespace {

constexpr int kMostThreads = 64;
constexpr int kTagBits = 31;

/// What lies ready to be taken. Receivers copy from the senders' buffers.
class Mailroom {
 public:
  explicit Mailroom(int ranks) : memory_(new (std::align_val_t{64}) std::byte[Board::bytes(ranks)]()), ranks_(ranks) {}
  ~Mailroom() { ::operator delete[](memory_, std::align_val_t{64}); }
  Mailroom(const Mailroom&) = delete;
  Mailroom& operator=(const Mailroom&) = delete;

  void* memory() { return memory_; }
  int ranks() const { return ranks_; }

  int64_t post(int from, int to, int tag, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    letters_[{from, to, tag}].push_back({++posted_, bytes});
    return posted_;
  }
  bool is_taken(int from, int to, int tag, int64_t number) {
    const std::lock_guard lock(mutex_);
    const auto found = letters_.find({from, to, tag});
    return found == letters_.end() || std::none_of(found->second.begin(), found->second.end(),
                                                   [&](const Letter& l) { return l.number == number; });
  }
  bool take(int from, int to, int tag, std::span<std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = letters_.find({from, to, tag});
    if (found == letters_.end()) return false;
    const auto sent = found->second.front().bytes;
    if (sent.size() != bytes.size())
      throw PeerError(concat("rank ", from, " sent ", sent.size(), " bytes where ", bytes.size(), " were expected"));
    std::memcpy(bytes.data(), sent.data(), sent.size());
    found->second.pop_front();
    if (found->second.empty()) letters_.erase(found);
    return true;
  }

 private:
  struct Letter {
    int64_t number;
    std::span<const std::byte> bytes;
  };
  std::byte* memory_;
  int ranks_;
  std::mutex mutex_;
  std::map<std::tuple<int, int, int>, std::deque<Letter>> letters_;
  int64_t posted_ = 0;
};

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(Mailroom& room, int rank, size_t largest)
      : room_(room), board_(room.memory(), room.ranks(), rank), largest_(largest) {}

  int rank() const override { return board_.rank(); }
  int size() const override { return board_.ranks(); }
  Message send(std::span<const std::byte> bytes, int to, int tag) override {
    const int64_t number = room_.post(rank(), to, tag, bytes);
    return keep([=, this](Message) { return room_.is_taken(rank(), to, tag, number); });
  }
  Message receive(std::span<std::byte> bytes, int from, int tag) override {
    const Message message = keep([=, this](Message asked) {
      const auto waiting = waiting_.find({from, tag});
      if (waiting->second.front() != asked || !room_.take(from, rank(), tag, bytes)) return false;
      waiting->second.pop_front();
      if (waiting->second.empty()) waiting_.erase(waiting);
      return true;
    });
    waiting_[{from, tag}].push_back(message);
    return message;
  }
  bool done(Message message) override {
    const auto found = asked_.find(message);
    if (!found->second(message)) return false;
    asked_.erase(found);
    return true;
  }
  size_t largest_message() const override { return largest_; }
  int tag_bits() const override { return kTagBits; }
  Board& board() override { return board_; }
  bool is_near(int) const override { return true; }

 private:
  Message keep(std::function<bool(Message)> is_done) {
    asked_.emplace(++made_, std::move(is_done));
    return made_;
  }

  Mailroom& room_;
  Board board_;
  size_t largest_;
  std::map<Message, std::function<bool(Message)>> asked_;
  std::map<std::pair<int, int>, std::deque<Message>>
      waiting_;  // each takes what was sent for it, not for the one before
  Message made_ = 0;
};

struct Failure {
  std::exception_ptr error;
  int order = 0;
  bool is_consequence = false;
};

void run_one(Communicator& group, Board& board, const std::function<void(Communicator&)>& f, Failure& failure,
             std::atomic<int>& failures) {
  try {
    f(group);
    board.leave(Presence::finished);
    return;
  } catch (const PeerError&) {
    failure = {std::current_exception(), failures++, true};
  } catch (const DeadlineError&) {
    failure = {std::current_exception(), failures++, true};
  } catch (...) {
    failure = {std::current_exception(), failures++, false};
  }
  board.leave(Presence::failed);
}

}  // namespace

void run_ranks(int ranks, const std::function<void(Communicator&)>& f, const ThreadOptions& options) {
  if (ranks < 1 || ranks > kMostThreads)
    throw UsageError(concat("there cannot be ", ranks, " ranks as threads"), concat("choose 1 to ", kMostThreads));
  if (options.largest_message < 1) throw UsageError("a message needs a byte");
  Mailroom room(ranks);
  std::vector<std::shared_ptr<ThreadTransport>> transports;
  std::vector<std::unique_ptr<Communicator>> groups;  // their buffers outlive every thread that reads from them
  for (int r = 0; r < ranks; ++r) {
    transports.push_back(std::make_shared<ThreadTransport>(room, r, options.largest_message));
    transports.back()->board().come();
    groups.push_back(exchange(transports.back(), {.deadline = options.deadline, .check = options.check}));
  }
  std::vector<Failure> by_rank(static_cast<size_t>(ranks));
  std::atomic<int> failures{0};
  const at::ThreadLocalState state;
  std::vector<std::thread> threads;
  for (size_t r = 0; r < by_rank.size(); ++r) {
    threads.emplace_back([&, r] {
      const at::ThreadLocalStateGuard guard(state);
      run_one(*groups[r], transports[r]->board(), f, by_rank[r], failures);
    });
  }
  for (auto& thread : threads) thread.join();
  const auto first = std::min_element(by_rank.begin(), by_rank.end(), [](const Failure& a, const Failure& b) {
    return std::tuple(!a.error, a.is_consequence, a.order) < std::tuple(!b.error, b.is_consequence, b.order);
  });
  if (first->error) std::rethrow_exception(first->error);
}

}  // namespace kinora::comm
