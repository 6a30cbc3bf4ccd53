// When ranks compare what they are about to do.
#pragma once

#include <map>
#include <string>
#include <tuple>

#include "kinora/comm/exchange.h"

namespace kinora::comm {

/// One rank's memory of the calls of a group.
class Comparisons {
 public:
  explicit Comparisons(Check check) : check_(check) {}
  /// Whether the ranks compare this call first. Every rank comes to the same answer, as long as they agree.
  bool are_due(const Call& call, std::string_view name, Counts counts);

 private:
  struct Seen {
    int64_t calls = 0;
    uint64_t shape = 0;
  };
  Check check_;
  std::map<std::tuple<Operation, int64_t, std::string>, Seen> seen_;  // by operation, channel and name
};

}  // namespace kinora::comm
