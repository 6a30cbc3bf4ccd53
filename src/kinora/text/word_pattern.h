// The regular expressions by which byte-level tokenizers cut text into words. Only the two that published files hold are
// taken: an expression from a file could take exponential time.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kinora::text {

class WordPattern {
 public:
  static const std::string_view kGpt2;    ///< what ByteLevel means by use_regex; OPT
  static const std::string_view kLlama3;  ///< as Llama 3's Split has it

  /// Whether this is one of the two.
  static bool is_known(std::string_view pattern);
  /// Of a known pattern.
  explicit WordPattern(std::string_view pattern);

  /// End offsets, in bytes and ascending, of the words of `text`: what matches, and what lies between.
  std::vector<size_t> ends(std::string_view text) const;

 private:
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace kinora::text
