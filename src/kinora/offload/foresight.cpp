#include "kinora/offload/foresight.h"

#include <algorithm>

namespace kinora::offload {

void Foresight::move(Position& position, int group) {
  if (position.now >= 0) next_[{position.before, position.now}] = group;
  position = {.before = position.now, .now = group};
}

std::vector<Upcoming> Foresight::after(const Position& position, int count) const {
  std::vector<Upcoming> out;
  Position at = position;
  bool is_next_pass = false;
  while (static_cast<int>(out.size()) < count) {
    const auto learned = next_.find({at.before, at.now});
    const int next = learned != next_.end() ? learned->second : (at.now + 1) % groups_;
    const bool is_known =
        next == position.now || std::any_of(out.begin(), out.end(), [&](const Upcoming& u) { return u.group == next; });
    if (is_known) break;
    is_next_pass = is_next_pass || next < at.now;
    out.push_back({next, is_next_pass});
    at = {.before = at.now, .now = next};
  }
  return out;
}

}  // namespace kinora::offload
