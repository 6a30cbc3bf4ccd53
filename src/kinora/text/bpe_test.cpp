#include "kinora/text/bpe.h"

#include <gtest/gtest.h>

#include <random>

#include "kinora/base/error.h"
#include "kinora/text/word_pattern.h"

namespace kinora::text {
namespace {

using Ids = std::vector<int64_t>;

Ids encode(const Bpe& bpe, std::string_view word) {
  Ids ids;
  bpe.encode(word, ids);
  return ids;
}

// a 0, b 1, c 2, ab 3, bc 4, abc 5
Bpe letters(Bpe::Merges merges, BpeOptions options = {}) {
  return {{"a", "b", "c", "ab", "bc", "abc"}, merges, std::move(options), "test"};
}

TEST(Bpe, TheFirstMergeOfTrainingComesFirst) {
  EXPECT_EQ(encode(letters({{"a", "b"}, {"b", "c"}}), "abc"), (Ids{3, 2}));
  EXPECT_EQ(encode(letters({{"b", "c"}, {"a", "b"}}), "abc"), (Ids{0, 4}));
  EXPECT_EQ(encode(letters({{"b", "c"}, {"a", "bc"}}), "abcab"), (Ids{5, 0, 1}));
  EXPECT_TRUE(encode(letters({}), "").empty());
}

TEST(Bpe, OfEqualPairsTheLeftmostIsMerged) {
  const Bpe bpe({"a", "aa", "aaa"}, {{"a", "a"}, {"aa", "a"}}, {}, "test");
  EXPECT_EQ(encode(bpe, "aaa"), (Ids{2}));
  EXPECT_EQ(encode(bpe, "aaaaa"), (Ids{1, 2}));
}

TEST(Bpe, EqualsMergingByHand) {
  // Every pair that is present and came first in training, leftmost first, until none is left.
  std::mt19937 random(5);
  std::vector<std::string> pieces{"a", "b", "c"};
  Bpe::Merges merges;
  while (merges.size() < 40) {
    const std::string left = pieces[random() % pieces.size()], right = pieces[random() % pieces.size()];
    if (left.size() + right.size() > 9 || std::count(pieces.begin(), pieces.end(), left + right) > 0) continue;
    merges.emplace_back(left, right);
    pieces.push_back(left + right);
  }
  const Bpe bpe(pieces, merges, {}, "test");
  for (int round = 0; round < 200; ++round) {
    std::string word;
    for (size_t i = random() % 40; i > 0; --i) word += static_cast<char>('a' + random() % 3);
    std::vector<std::string> parts;
    for (const char c : word) parts.emplace_back(1, c);
    const auto merge_one = [&] {
      for (const auto& [left, right] : merges) {
        for (size_t i = 0; i + 1 < parts.size(); ++i) {
          if (parts[i] != left || parts[i + 1] != right) continue;
          parts[i] += right;
          parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
          return true;
        }
      }
      return false;
    };
    while (merge_one()) {
    }
    std::vector<std::string> got;
    for (const int64_t id : encode(bpe, word)) got.push_back(bpe.text_of(id));
    EXPECT_EQ(got, parts) << word;
  }
}

TEST(Bpe, UnknownCharactersAreBytesOrOneTokenOrNothing) {
  std::vector<std::string> pieces{"<unk>", "a", "<0xC3>", "<0xA9>"};
  const auto make = [&](BpeOptions options) { return Bpe(pieces, {}, std::move(options), "test"); };
  const std::string text = "a\xC3\xA9zza";  // a, e with acute, z, z, a
  EXPECT_EQ(encode(make({}), text), (Ids{1, 1}));
  EXPECT_EQ(encode(make({.unk_token = "<unk>"}), text), (Ids{1, 0, 0, 0, 1}));
  EXPECT_EQ(encode(make({.fuse_unk = true, .unk_token = "<unk>"}), text), (Ids{1, 0, 1}));
  EXPECT_EQ(encode(make({.byte_fallback = true, .fuse_unk = true, .unk_token = "<unk>"}), text), (Ids{1, 2, 3, 0, 1}));
}

TEST(Bpe, AWordThatIsAPieceMayBeTakenAsItIs) {
  const Bpe::Merges merges{{"a", "b"}};
  EXPECT_EQ(encode(letters(merges), "abc"), (Ids{3, 2}));
  EXPECT_EQ(encode(letters(merges, {.ignore_merges = true}), "abc"), (Ids{5}));
}

TEST(Bpe, RefusesBrokenVocabularies) {
  const auto refuses = [](std::vector<std::string> pieces, const Bpe::Merges& merges, BpeOptions options = {}) {
    EXPECT_THROW(Bpe(std::move(pieces), merges, std::move(options), "test"), DataError);
  };
  refuses({}, {});
  refuses({"a", "a"}, {});
  refuses({"a", ""}, {});
  refuses({"a", "\xFF"}, {});
  refuses({"a", std::string(2000, 'x')}, {});
  refuses({"a", "b"}, {{"a", "b"}});
  refuses({"a", "ab"}, {{"a", "b"}});
  refuses({"a"}, {}, {.unk_token = "<unk>"});
}

TEST(ByteCharacters, EveryByteHasOneAndComesBack) {
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  const std::string shown = bytes_as_characters(all);
  EXPECT_EQ(characters_as_bytes(shown), all);
  EXPECT_EQ(bytes_as_characters("a b\n"),
            "a\xC4\xA0"
            "b\xC4\x8A");  // U+0120, U+010A
  EXPECT_EQ(characters_as_bytes("\xE2\x96\x81"), std::nullopt);
}

TEST(WordPattern, CutsWordsAndLosesNothing) {
  const auto words = [](std::string_view pattern, const std::string& text) {
    std::vector<std::string> out;
    size_t begin = 0;
    for (const size_t end : WordPattern(pattern).ends(text)) {
      out.push_back(text.substr(begin, end - begin));
      begin = end;
    }
    EXPECT_EQ(begin, text.size());
    return out;
  };
  using Words = std::vector<std::string>;
  EXPECT_EQ(words(WordPattern::kGpt2, "don't  do 12345!?\n"), (Words{"don", "'t", " ", " do", " 12345", "!?", "\n"}));
  EXPECT_EQ(words(WordPattern::kLlama3, "DON'T  do 12345!?\n"),
            (Words{"DON", "'T", " ", " do", " ", "123", "45", "!?\n"}));
  EXPECT_EQ(words(WordPattern::kGpt2, ""), Words{});
  EXPECT_FALSE(WordPattern::is_known("(a+)+"));
}

}  // namespace
}  // namespace kinora::text
