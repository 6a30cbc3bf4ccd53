#include "kinora/comm/flight.h"

#include <sched.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "kinora/base/error.h"

namespace kinora::comm {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kSpin = 1ms;            // most exchanges end within it; longer ones leave the core to others
constexpr auto kShortSleep = 200us;    // within the first second
constexpr auto kLongSleep = 1ms;       // after a second nobody needs an answer that quick
constexpr auto kBetweenLooks = 100ms;  // at the board and at other processes
constexpr double kArrival_s = 1.0;     // what a rank sent before it ended may be on its way
constexpr int kSequenceBits = 8;       // exchanges of a pair that are under way at a time never share a tag

class Patience {
 public:
  explicit Patience(bool is_crowded) : is_crowded_(is_crowded) {}
  double waited_s() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  bool is_time_to_look() {
    const auto now = Clock::now();
    if (now - looked_ < kBetweenLooks && (looked_ != begin_ || now - begin_ < kSpin)) return false;
    looked_ = now;
    return true;
  }
  void rest() const {
    const auto waited = Clock::now() - begin_;
    if (waited >= kSpin)
      std::this_thread::sleep_for(waited < 1s ? std::chrono::microseconds(kShortSleep) : kLongSleep);
    else if (is_crowded_)
      ::sched_yield();
  }

 private:
  bool is_crowded_;  // a core that spins may be the one that the awaited rank needs
  Clock::time_point begin_ = Clock::now(), looked_ = begin_;
};

int cores() {
  cpu_set_t set;
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

void require_agreement(const Flight& flight, const Call& other, int peer) {
  const auto& members = *flight.members;
  const auto at = std::find(members.begin(), members.end(), peer);
  if (!agrees(flight.call, flight.me, other, static_cast<int>(at - members.begin())))
    throw PeerError(both_sides(flight.call, members[static_cast<size_t>(flight.me)], other, peer));
}

Engine::Engine(std::shared_ptr<Transport> transport, const ExchangeOptions& options)
    : transport_(std::move(transport)), options_(options) {
  int near = 0;
  for (int r = 0; r < transport_->size(); ++r) near += transport_->is_near(r) ? 1 : 0;
  is_crowded_ = near > cores();
}

int Engine::tag(const Flight& flight, size_t bytes, bool is_check) const {
  const int bits = transport_->tag_bits() - kSequenceBits;
  const Call& call = flight.call;
  // Calls that are to be compared must meet even where they differ.
  const uint64_t what = is_check ? hash(hash(call.group, static_cast<uint64_t>(call.sequence)), ~uint64_t{0})
                                 : hash(hash(call.agreed, static_cast<uint64_t>(flight.phase)), bytes);
  const uint64_t sequence = static_cast<uint64_t>(call.sequence) & ((1U << kSequenceBits) - 1);
  return static_cast<int>((sequence << bits) | ((what ^ what >> 32) & ((uint64_t{1} << bits) - 1)));
}

void Engine::send(Flight& flight, std::span<const std::byte> bytes, int peer, bool is_check) {
  const int to = (*flight.members)[static_cast<size_t>(peer)], t = tag(flight, bytes.size(), is_check);
  for (size_t most = transport_->largest_message(); !bytes.empty();) {
    const size_t piece = std::min(bytes.size(), most);
    flight.pending.push_back({transport_->send(bytes.first(piece), to, t), to});
    bytes = bytes.subspan(piece);
  }
}

void Engine::receive(Flight& flight, std::span<std::byte> bytes, int peer, bool is_check) {
  const int from = (*flight.members)[static_cast<size_t>(peer)], t = tag(flight, bytes.size(), is_check);
  for (size_t most = transport_->largest_message(); !bytes.empty();) {
    const size_t piece = std::min(bytes.size(), most);
    flight.pending.push_back({transport_->receive(bytes.first(piece), from, t), from});
    bytes = bytes.subspan(piece);
  }
}

void Engine::start(const std::shared_ptr<Flight>& flight) {
  if (failure_) std::rethrow_exception(failure_);
  transport_->board().write(flight->call);
  flights_.push_back(flight);
  try {
    advance(*flight);
    if (flight->is_done) flights_.pop_back();
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
}

/// Whatever is through is taken off; a phase without messages left leads to the next.
void Engine::advance(Flight& flight) {
  while (!flight.is_done) {
    std::erase_if(flight.pending, [&](const Flight::Part& part) { return transport_->done(part.message); });
    if (!flight.pending.empty()) return;
    if (flight.next) {
      const auto next = std::exchange(flight.next, {});
      next(flight);
    } else {
      flight.is_done = true;
      flight.buffers.clear();
    }
  }
}

void Engine::progress() {
  for (const auto& flight : flights_) advance(*flight);
  std::erase_if(flights_, [](const auto& flight) { return flight->is_done; });
}

void Engine::wait(Flight& flight) {
  if (flight.is_done) return;
  if (failure_) std::rethrow_exception(failure_);
  try {
    for (Patience patience(is_crowded_);; patience.rest()) {
      progress();
      if (flight.is_done) return;
      if (!patience.is_time_to_look()) continue;
      look_for_trouble(flight, patience.waited_s());
      if (!flight.is_patient && patience.waited_s() * 1000 >= static_cast<double>(options_.deadline.count()))
        give_up(flight);
    }
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
}

void Engine::look_for_trouble(const Flight& flight, double waited_s) {
  const Board& board = transport_->board();
  // Another exchange may be what holds this one up, and a rank of which nothing is awaited may be what holds up others.
  // Disagreement comes first: it is a cause.
  for (const auto& f : flights_) {
    for (const int peer : *f->members) {
      if (peer == board.rank() || !transport_->is_near(peer)) continue;
      const auto other = board.find(peer, f->call.group, f->call.channel, f->call.sequence);
      if (other) require_agreement(*f, *other, peer);
    }
  }
  const double arrival_s = std::min(kArrival_s, static_cast<double>(options_.deadline.count()) / 2000);
  for (const Flight::Part& part : flight.pending) {
    if (!transport_->is_near(part.peer)) continue;
    const Presence presence = board.presence(part.peer);
    const bool is_over = presence == Presence::failed || presence == Presence::finished || board.has_gone(part.peer);
    if (!is_over) continue;  // it may also be still to come
    const bool has_come =
        board.find(part.peer, flight.call.group, flight.call.channel, flight.call.sequence).has_value();
    if (!has_come || waited_s > arrival_s)
      throw PeerError(concat(board.news(part.peer), "; awaited in ", describe(flight.call)));
  }
}

void Engine::give_up(const Flight& flight) {
  std::vector<int> missing;
  for (const Flight::Part& part : flight.pending) missing.push_back(part.peer);
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  std::string names, news;
  for (const int rank : missing) {
    names += concat(names.empty() ? "" : ", ", rank);
    const std::string one = transport_->is_near(rank) ? transport_->board().news(rank) : "";
    if (!one.empty()) news += "; " + one;
  }
  throw DeadlineError(concat(describe(flight.call), ": nothing from rank ", names, " within ",
                             static_cast<double>(options_.deadline.count()) / 1000, " s", news),
                      "see what holds that rank up; KINORA_DEADLINE sets how many seconds ranks wait");
}

}  // namespace kinora::comm
