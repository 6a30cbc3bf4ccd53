// Which group of weights is asked for next. Learned: what followed the last two groups when they came one after the
// other the time before, so that a pass backward, blocks left out and any order of a model's own are foreseen from the
// second time on. Before that, the order of declaration, round and round.
#pragma once

#include <map>
#include <utility>
#include <vector>

namespace kinora::offload {

/// How far somebody is who goes through the groups.
struct Position {
  int before = -1, now = -1;  ///< the last two groups; -1: none yet
};

struct Upcoming {
  int group = 0;
  bool is_next_pass = false;  ///< behind a step back in the order
};

class Foresight {
 public:
  explicit Foresight(int groups) : groups_(groups) {}
  /// Notes that `position` goes on to `group`, another one than before.
  void move(Position& position, int group);
  /// The next `count` groups, fewer where the course comes back to where it is.
  std::vector<Upcoming> after(const Position& position, int count) const;

 private:
  int groups_;
  std::map<std::pair<int, int>, int> next_;
};

}  // namespace kinora::offload
