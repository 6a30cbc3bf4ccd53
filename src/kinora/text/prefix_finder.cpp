#include "kinora/text/prefix_finder.h"

#include <algorithm>

namespace kinora::text {

PrefixFinder::PrefixFinder(std::vector<std::string> texts) : texts_(std::move(texts)) {
  for (size_t i = 0; i < texts_.size(); ++i) {
    if (texts_[i].empty()) continue;
    by_first_byte_[static_cast<unsigned char>(texts_[i][0])].push_back(static_cast<uint32_t>(i));
  }
  for (auto& bucket : by_first_byte_) {
    std::stable_sort(bucket.begin(), bucket.end(),
                     [&](uint32_t a, uint32_t b) { return texts_[a].size() > texts_[b].size(); });
  }
}

std::optional<size_t> PrefixFinder::longest(std::string_view text) const {
  if (text.empty()) return std::nullopt;
  for (const uint32_t i : by_first_byte_[static_cast<unsigned char>(text[0])]) {
    if (text.starts_with(texts_[i])) return i;
  }
  return std::nullopt;
}

}  // namespace kinora::text
