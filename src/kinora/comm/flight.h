// Exchanges under way: what each still waits for, what it does next, and why it may wait in vain.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kinora/comm/exchange.h"

namespace kinora::comm {

/// One exchange. Its messages are posted in phases; `next` posts the following one, or ends it by leaving `next` empty.
struct Flight {
  struct Part {
    Transport::Message message;
    int peer;  ///< rank of the world
  };
  Call call;
  std::shared_ptr<const std::vector<int>> members;  ///< ranks of the world, by rank of the group
  int me = 0;                                       ///< rank of the group
  int phase = 0;
  std::vector<Part> pending;
  std::function<void(Flight&)> next;
  std::vector<Tensor> buffers;  ///< held until the end, or for good where an exchange never ended
  std::vector<Call> theirs;     ///< Check: what the others said
  bool is_patient = false;      ///< without a deadline
  bool is_done = false;
};

/// One rank's exchanges. All advance while any of them is waited for: two may be waited for in different orders on
/// different ranks.
class Engine {
 public:
  Engine(std::shared_ptr<Transport> transport, const ExchangeOptions& options);

  Transport& transport() { return *transport_; }
  const ExchangeOptions& options() const { return options_; }

  /// Posts the first phase. Throws what an earlier exchange failed with: after that, ranks are out of step.
  void start(const std::shared_ptr<Flight>& flight);
  /// Until it is done. Throws PeerError or DeadlineError.
  void wait(Flight& flight);
  bool has_failed() const { return failure_ != nullptr; }

  /// For `next`: a message of the current phase with the group's rank `peer`; nothing for no bytes.
  void send(Flight& flight, std::span<const std::byte> bytes, int peer, bool is_check = false);
  void receive(Flight& flight, std::span<std::byte> bytes, int peer, bool is_check = false);

 private:
  void progress();
  void advance(Flight& flight);
  void look_for_trouble(const Flight& flight, double waited_s);
  [[noreturn]] void give_up(const Flight& flight);
  int tag(const Flight& flight, size_t bytes, bool is_check) const;

  std::shared_ptr<Transport> transport_;
  ExchangeOptions options_;
  bool is_crowded_ = false;  ///< more ranks of this host than cores
  std::vector<std::shared_ptr<Flight>> flights_;
  std::exception_ptr failure_;
};

/// Throws PeerError with both sides unless the two calls belong together.
void require_agreement(const Flight& flight, const Call& other, int peer);

}  // namespace kinora::comm
