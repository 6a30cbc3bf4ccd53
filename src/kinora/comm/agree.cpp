#include "kinora/comm/agree.h"

#include <cstring>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/comm/counts.h"

namespace kinora::comm {
namespace {

constexpr size_t kShown = 120;

/// From where the two begin to differ, and a little before.
std::string shown(std::string_view text, std::string_view other) {
  size_t same = 0;
  while (same < text.size() && same < other.size() && text[same] == other[same]) ++same;
  const size_t begin = same > 20 ? same - 20 : 0;
  return concat("'", begin > 0 ? "..." : "", printable(text.substr(begin), kShown), "'");
}

}  // namespace

void agree(Communicator& group, std::string_view what, std::string_view text) {
  const std::vector<int64_t> one(static_cast<size_t>(group.size()), 1);
  const Tensor sizes = at::empty({group.size()}, at::kLong);
  group.all_gather(sizes, at::full({1}, static_cast<int64_t>(text.size()), at::kLong), one, "agree")->wait();
  const std::vector<int64_t> counts(sizes.const_data_ptr<int64_t>(), sizes.const_data_ptr<int64_t>() + group.size());
  const Tensor mine = at::empty({static_cast<int64_t>(text.size())}, at::kByte),
               all = at::empty({sum(counts)}, at::kByte);
  std::memcpy(mine.data_ptr(), text.data(), text.size());
  group.all_gather(all, mine, counts, "agree")->wait();

  const auto begins = offsets(counts);
  const auto of = [&](int rank) {
    const auto r = static_cast<size_t>(rank);
    return std::string_view(static_cast<const char*>(all.const_data_ptr()) + begins[r], static_cast<size_t>(counts[r]));
  };
  for (int r = 1; r < group.size(); ++r) {
    if (of(r) == of(0)) continue;
    throw PeerError(concat("ranks differ in ", what, ": rank 0 has ", shown(of(0), of(r)), ", rank ", r, " has ",
                           shown(of(r), of(0))),
                    "start all ranks with the same program, files and options");
  }
}

bool any(Communicator& group, bool mine, std::string_view name) {
  const Tensor number = at::full({1}, mine ? 1 : 0, at::kLong);
  group.all_reduce(number, name)->wait();
  return number.item<int64_t>() > 0;
}

}  // namespace kinora::comm
