// Which of some texts stands at a place of another text: added tokens in a prompt, user-defined symbols.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kinora::text {

class PrefixFinder {
 public:
  PrefixFinder() = default;
  /// Empty texts are never found; of equal ones the first is.
  explicit PrefixFinder(std::vector<std::string> texts);

  /// Index of the longest of the texts that `text` begins with.
  std::optional<size_t> longest(std::string_view text) const;
  size_t size_of(size_t index) const { return texts_.at(index).size(); }

 private:
  std::vector<std::string> texts_;
  std::array<std::vector<uint32_t>, 256> by_first_byte_;  // longest first
};

}  // namespace kinora::text
