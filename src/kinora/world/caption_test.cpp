#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "kinora/world/full_world.h"
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
  for (const WorldConfig& config : {WorldConfig{}, full_world()}) {
    const auto vocab = vocabulary(config);
    EXPECT_TRUE(std::is_sorted(vocab.begin(), vocab.end()));
    EXPECT_LE(vocab.size(), 220u);
    std::set<std::string> known(vocab.begin(), vocab.end()), used;
    for (uint64_t seed = 0; seed < 12000; ++seed) {
      const std::string text = caption(draw(config, seed, Split::any), seed);
      ASSERT_EQ(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz ,."), std::string::npos) << text;
      ASSERT_EQ(text.find("  "), std::string::npos) << text;
      const auto words = words_of(text);
      ASSERT_LE(static_cast<int64_t>(words.size()), longest_caption(config)) << text;
      for (const auto& word : words) ASSERT_TRUE(known.count(word)) << word << " in: " << text;
      used.insert(words.begin(), words.end());
    }
    EXPECT_EQ(used, known);
  }
}

TEST(Caption, NoneIsLongerThanFortyWordsAndSomeAreNearlyAsLong) {
  EXPECT_LE(longest_caption(WorldConfig{}), 24);
  EXPECT_LE(longest_caption(full_world()), 40);
  // A world with few phrases, so that chance finds the longest one, or, of the many of a pair, nearly.
  WorldConfig config = full_world();
  config.shapes = {"star", "heart"}, config.colours = {"cyan", "pink"}, config.motions = {"spin"};
  config.backgrounds = {"night"};
  for (const double pairs : {0.0, 1.0}) {
    config.pairs = pairs;
    size_t longest = 0;
    const Scene scene = draw(config, 3, Split::any);
    for (uint64_t seed = 0; seed < 60000; ++seed) longest = std::max(longest, words_of(caption(scene, seed)).size());
    EXPECT_GE(static_cast<int64_t>(longest), longest_caption(config) - (pairs > 0.0 ? 2 : 0));
  }
}

TEST(Caption, OneSceneHasManyPhrasings) {
  const Scene scene{{{"ball", "red", "right", "", 13, 20, 30, 1.5}}, "grass"};
  std::set<std::string> texts;
  for (uint64_t seed = 0; seed < 20000; ++seed) texts.insert(caption(scene, seed));
  EXPECT_GT(texts.size(), 5000u);
  EXPECT_TRUE(texts.count("a red ball moves to the right on grass"));
  EXPECT_TRUE(texts.count("a red ball moves right on green grass"));
  EXPECT_EQ(caption(scene, 9), caption(scene, 9));
}

TEST(Caption, ArticlesFitAndMostCaptionsNameTheSize) {
  const Scene scene{{{"square", "blue", "up", "small", 13, 20, 30, 1.5}}, "gray"};
  bool azure = false, small = false, tiny = false;
  int named = 0;
  constexpr int kCaptions = 3000;
  for (uint64_t seed = 0; seed < kCaptions; ++seed) {
    const std::string text = caption(scene, seed);
    EXPECT_EQ(text.find("a azure"), std::string::npos) << text;
    EXPECT_EQ(text.find("an small"), std::string::npos) << text;
    named += as_told(scene, text) == scene;
    azure |= text.find("an azure") != std::string::npos;
    small |= text.find("a small ") != std::string::npos;
    tiny |= text.find("tiny ") != std::string::npos;
  }
  EXPECT_TRUE(azure && small && tiny);
  EXPECT_NEAR(named, 0.85 * kCaptions, 0.03 * kCaptions);
  EXPECT_EQ(as_told(scene, "a blue square rises on gray").objects[0].size, "");
  Scene two = scene;
  two.objects.push_back({"ball", "red", "left", "small", 13, 50, 30, 1.5});
  EXPECT_EQ(as_told(two, "a tiny blue square rises and a little red ball moves left on gray"), two);
  EXPECT_EQ(as_told(two, "a tiny blue square rises and a red ball moves left on gray").objects[1].size, "");
}

/// A part of a caption: what a table's phrase says about object 0 or 1.
struct Said {
  enum class What { object, colour, motion } what;
  size_t object;
};

/// Reads the phrases of both objects in the order of the text, the longest first at each place.
std::vector<Said> parse(const Scene& scene, const std::string& text) {
  std::vector<std::pair<std::string, Said>> phrases;
  for (size_t i = 0; i < 2; ++i) {
    const Object& object = scene.objects[i];
    for (const auto& noun : shape_row(object.shape).nouns) phrases.push_back({noun, {Said::What::object, i}});
    for (const auto& word : colour_row(object.colour).words) phrases.push_back({word, {Said::What::colour, i}});
    const MotionRow& row = motion_row(object.motion);
    for (auto form : {&Verb::finite, &Verb::gerund}) {
      for (const Verb& verb : row.whole) phrases.push_back({verb.*form, {Said::What::motion, i}});
      for (const Verb& verb : row.verbs) {
        for (const auto& adverb : row.adverbs) phrases.push_back({verb.*form + " " + adverb, {Said::What::motion, i}});
      }
    }
  }
  std::string rest;
  for (const char c : text) rest += c == ',' || c == '.' ? "" : std::string(1, c);
  rest += " ";
  std::vector<Said> said;
  for (size_t at = 0; at < rest.size(); at = rest.find(' ', at) + 1) {
    const std::pair<std::string, Said>* best = nullptr;
    for (const auto& phrase : phrases) {
      const bool here = rest.compare(at, phrase.first.size() + 1, phrase.first + " ") == 0;
      if (here && (!best || phrase.first.size() > best->first.size())) best = &phrase;
    }
    if (!best) continue;
    said.push_back(best->second);
    at += best->first.size();
  }
  return said;
}

TEST(Caption, OfTwoObjectsSaysWhichDoesWhat) {
  const WorldConfig config = roomy_world();
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    const Scene scene = draw_pair(config, seed, Split::any);
    if (scene.objects[0].motion == scene.objects[1].motion) continue;
    const std::string text = caption(scene, seed);
    int coloured[2] = {}, named[2] = {}, moved[2] = {};
    size_t speaks_of = 9;
    for (const Said& said : parse(scene, text)) {
      // A motion belongs to the object that was named last, by noun or colour.
      if (said.what != Said::What::motion) speaks_of = said.object;
      ASSERT_EQ(said.object, speaks_of) << text;
      (said.what == Said::What::object ? named : said.what == Said::What::colour ? coloured : moved)[said.object]++;
    }
    for (size_t i = 0; i < 2; ++i) {
      ASSERT_GE(named[i], 1) << text;
      ASSERT_GE(coloured[i], 1) << text;
      ASSERT_EQ(moved[i], 1) << text;
    }
  }
}

TEST(Caption, OfTwoObjectsComesInEitherOrder) {
  const Scene scene{{{"ball", "red", "left", "", 10, 20, 30, 1.5}, {"square", "blue", "spin", "", 10, 60, 60, 1.5}},
                    "grass"};
  std::set<std::string> texts;
  bool crossed = false;
  for (uint64_t seed = 0; seed < 50000; ++seed) {
    texts.insert(caption(scene, seed));
    const std::string& text = caption(scene, seed);
    crossed |= text.find("square and") < text.find("ball") && text.find(", the ball") < text.find("and the square");
  }
  EXPECT_TRUE(texts.count("a red ball moves left and a blue square spins on grass"));
  EXPECT_TRUE(texts.count("a blue square spins and a red ball moves left on grass"));
  EXPECT_TRUE(crossed) << "the object that is named first may move last";
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
  for (const auto& row : size_rows()) {
    std::set<std::string> own(row.words.begin(), row.words.end());
    for (const auto& text : own) EXPECT_TRUE(seen.insert("size " + text).second) << text;
  }
  for (const auto& row : motion_rows()) {
    std::set<std::string> own(row.adverbs.begin(), row.adverbs.end());
    for (const auto& verb : row.whole) own.insert({verb.finite, verb.gerund});
    EXPECT_FALSE(own.empty()) << row.name;
    for (const auto& text : own) EXPECT_TRUE(seen.insert("motion " + text).second) << text;
  }
  for (const auto& row : background_rows()) {
    std::set<std::string> own(row.places.begin(), row.places.end());
    own.insert(row.scenery.begin(), row.scenery.end());
    for (const auto& text : own) EXPECT_TRUE(seen.insert("background " + text).second) << text;
  }
}

TEST(Caption, TheTokenizerHasT5sIdsAWholeWordForEachWordAndEveryAsciiCharacter) {
  const WorldConfig config = full_world();
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
