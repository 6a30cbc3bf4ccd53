#include "kinora/comm/agree.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/comm/counts.h"

namespace kinora::comm {
namespace {

constexpr size_t kShown = 120;
constexpr size_t kMostFromFirst = 4096;

/// What a rank tells the others: it fits one broadcast, so that all know its size.
struct Told {
  int64_t size = 0;
  int64_t is_error = 0;
  std::array<char, kMostFromFirst> text{};
};

/// From where the two begin to differ, and a little before.
std::string shown(std::string_view text, std::string_view other) {
  size_t same = 0;
  while (same < text.size() && same < other.size() && text[same] == other[same]) ++same;
  const size_t begin = same > 20 ? same - 20 : 0;
  return concat("'", begin > 0 ? "..." : "", printable(text.substr(begin), kShown), "'");
}

}  // namespace

std::vector<std::string> gather_texts(Communicator& group, std::string_view mine, std::string_view name) {
  const std::vector<int64_t> one(static_cast<size_t>(group.size()), 1);
  const Tensor sizes = at::empty({group.size()}, at::kLong);
  group.all_gather(sizes, at::full({1}, static_cast<int64_t>(mine.size()), at::kLong), one, name)->wait();
  const std::vector<int64_t> counts(sizes.const_data_ptr<int64_t>(), sizes.const_data_ptr<int64_t>() + group.size());
  const Tensor own = at::empty({static_cast<int64_t>(mine.size())}, at::kByte),
               all = at::empty({sum(counts)}, at::kByte);
  std::copy_n(mine.data(), mine.size(), static_cast<char*>(own.data_ptr()));  // of no text there is no memory
  group.all_gather(all, own, counts, name)->wait();
  std::vector<std::string> texts;
  const char* next = static_cast<const char*>(all.const_data_ptr());
  for (const int64_t count : counts) {
    texts.emplace_back(next, static_cast<size_t>(count));
    next += count;
  }
  return texts;
}

void agree(Communicator& group, std::string_view what, std::string_view text) {
  const std::vector<std::string> texts = gather_texts(group, text, "agree");
  for (size_t r = 1; r < texts.size(); ++r) {
    if (texts[r] == texts[0]) continue;
    throw DifferenceError(concat("ranks differ in ", what, ": rank 0 has ", shown(texts[0], texts[r]), ", rank ", r,
                                 " has ", shown(texts[r], texts[0])),
                          "start all ranks with the same program, files and options");
  }
}

bool any(Communicator& group, bool mine, std::string_view name) {
  const Tensor number = at::full({1}, mine ? 1 : 0, at::kLong);
  group.all_reduce(number, name)->wait();
  return number.item<int64_t>() > 0;
}

std::string from_first(Communicator& group, std::string_view what, const std::function<std::string()>& make) {
  Told told;
  std::exception_ptr failure;
  if (group.rank() == 0) {
    std::string text;
    try {
      text = make();
    } catch (const Error& error) {
      failure = std::current_exception();
      text = error.what(), told.is_error = 1;
      text.resize(std::min(text.size(), kMostFromFirst));
    }
    KINORA_ASSERT(text.size() <= kMostFromFirst);
    told.size = static_cast<int64_t>(text.size());
    text.copy(told.text.data(), text.size());
  }
  const Tensor bytes = at::empty({static_cast<int64_t>(sizeof told)}, at::kByte);
  std::memcpy(bytes.data_ptr(), &told, sizeof told);
  group.broadcast(bytes, 0, what)->wait();
  if (failure) std::rethrow_exception(failure);
  std::memcpy(&told, bytes.const_data_ptr(), sizeof told);
  std::string text(told.text.data(), static_cast<size_t>(told.size));
  if (told.is_error != 0) throw PeerError(concat("rank 0 has not made ", what, ": ", text));
  return text;
}

}  // namespace kinora::comm
