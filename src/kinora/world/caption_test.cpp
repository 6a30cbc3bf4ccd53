#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "kinora/world/tables.h"
#include "kinora/world/world.h"

namespace kinora::world {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c >= 'a' && c <= 'z')
      words.back() += c;
    else if (!words.back().empty())
      words.emplace_back();
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

TEST(Caption, EveryWordIsInTheVocabularyAndEveryVocabularyWordIsUsed) {
  const WorldConfig config;
  const auto vocab = vocabulary(config);
  EXPECT_TRUE(std::is_sorted(vocab.begin(), vocab.end()));
  std::set<std::string> known(vocab.begin(), vocab.end()), used;
  size_t longest = 0;
  for (uint64_t seed = 0; seed < 20000; ++seed) {
    const std::string text = caption(draw(config, seed, Split::any), seed);
    ASSERT_EQ(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz ,."), std::string::npos) << text;
    ASSERT_EQ(text.find("  "), std::string::npos) << text;
    const auto words = words_of(text);
    longest = std::max(longest, words.size());
    for (const auto& word : words) ASSERT_TRUE(known.count(word)) << word << " in: " << text;
    used.insert(words.begin(), words.end());
  }
  EXPECT_EQ(used, known);
  EXPECT_LE(longest, 24u);
}

TEST(Caption, OneSceneHasManyPhrasings) {
  const Scene scene{"ball", "red", "right", "grass", "", 13, 20, 30, 1.5};
  std::set<std::string> texts;
  for (uint64_t seed = 0; seed < 20000; ++seed) texts.insert(caption(scene, seed));
  EXPECT_GT(texts.size(), 5000u);
  EXPECT_TRUE(texts.count("a red ball moves to the right on grass"));
  EXPECT_TRUE(texts.count("a red ball moves right on green grass"));
  EXPECT_EQ(caption(scene, 9), caption(scene, 9));
}

TEST(Caption, ArticlesFitAndSizesAreNamed) {
  const Scene scene{"square", "blue", "up", "gray", "small", 13, 20, 30, 1.5};
  bool azure = false, small = false;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    const std::string text = caption(scene, seed);
    EXPECT_EQ(text.find("a azure"), std::string::npos) << text;
    EXPECT_EQ(text.find("an small"), std::string::npos) << text;
    EXPECT_NE(text.find("small"), std::string::npos) << text;
    azure |= text.find("azure") != std::string::npos;
    small |= text.find("a small ") != std::string::npos;
  }
  EXPECT_TRUE(azure && small);
}

// Two scenes that differ must never get the same caption: what a caption says decides every attribute.
TEST(Caption, NoPhraseOfATableStandsInAnotherRow) {
  std::set<std::string> seen;
  for (const auto& row : shape_rows()) {
    std::set<std::string> own(row.nouns.begin(), row.nouns.end());
    for (const auto& text : own) EXPECT_TRUE(seen.insert("shape " + text).second) << text;
  }
  for (const auto& row : colour_rows()) {
    std::set<std::string> own(row.words.begin(), row.words.end());
    for (const auto& text : own) EXPECT_TRUE(seen.insert("colour " + text).second) << text;
  }
  for (const auto& row : motion_rows()) {
    std::set<std::string> own(row.adverbs.begin(), row.adverbs.end());
    for (const auto& verb : row.whole) own.insert({verb.finite, verb.gerund});
    for (const auto& text : own) EXPECT_TRUE(seen.insert("motion " + text).second) << text;
  }
  for (const auto& row : background_rows()) {
    std::set<std::string> own(row.places.begin(), row.places.end());
    own.insert(row.scenery.begin(), row.scenery.end());
    for (const auto& text : own) EXPECT_TRUE(seen.insert("background " + text).second) << text;
  }
}

TEST(Caption, TheTokenizerHasT5sIdsAWholeWordForEachWordAndEveryAsciiCharacter) {
  const WorldConfig config;
  const auto json = nlohmann::json::parse(tokenizer_json(config));
  const auto& model = json.at("model");
  EXPECT_EQ(model.at("type"), "Unigram");
  EXPECT_EQ(model.at("unk_id"), 2);
  const auto& vocab = model.at("vocab");
  EXPECT_EQ(vocab[0][0], "<pad>");
  EXPECT_EQ(vocab[1][0], "</s>");
  EXPECT_EQ(vocab[2][0], "<unk>");
  std::set<std::string> pieces;
  for (const auto& piece : vocab) EXPECT_TRUE(pieces.insert(piece[0].get<std::string>()).second) << piece;
  for (const auto& word : vocabulary(config)) EXPECT_TRUE(pieces.count("\xE2\x96\x81" + word)) << word;
  for (char c = '!'; c <= '~'; ++c) {
    EXPECT_EQ(pieces.count(std::string(1, c)), c < 'A' || c > 'Z' ? 1u : 0u) << c;  // capitals become small letters
  }
  EXPECT_EQ(json.at("post_processor").at("special_tokens").at("</s>").at("ids")[0], 1);
  EXPECT_EQ(tokenizer_json(config), tokenizer_json(config));
}

}  // namespace
}  // namespace kinora::world
