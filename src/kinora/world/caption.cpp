// Captions and the tokenizer that reads them. The grammar is a list of sentences with slots that the tables fill.
#include <algorithm>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "kinora/world/random.h"
#include "kinora/world/tables.h"
#include "kinora/world/world.h"

namespace kinora::world {
namespace {

constexpr const char* kMetaspace = "\xE2\x96\x81";  // U+2581

// {a} is "a" or "an", by the word that follows. The plainest sentence stands several times: people type it most.
const std::vector<std::string>& sentences() {
  static const std::vector<std::string> all = {
      "{a} {object} {moves} {place}",
      "{a} {object} {moves} {place}",
      "{a} {object} {moves} {place}",
      "{a} {object} {moves} {place}",
      "the {object} {moves} {place}",
      "{object} {moves} {place}",
      "{a} {object} {place} {moves}",
      "{place} {a} {object} {moves}",
      "{a} {object} is {moving} {place}",
      "{a} {object} {moving} {place}",
      "{object} {moving} {place}",
      "{object} {moving}, {scenery}",
      "{a} {shape} that is {colour} {moves} {place}",
      "there is {a} {object} {place}, it {moves}",
      "{a} video of {a} {object} {moving} {place}",
      "{a} clip of {a} {object} that {moves} {place}",
  };
  return all;
}

const std::string& pick(const std::vector<std::string>& from, Random& random) {
  return from[random.below(from.size())];
}

Verb pick_motion(const MotionRow& row, Random& random) {
  const uint64_t phrases = row.verbs.size() * row.adverbs.size();
  // A verb that says the motion alone would be drowned by the many verb-adverb pairs, so it gets a quarter.
  if (!row.whole.empty() && (phrases == 0 || random.uniform() < 0.25)) return row.whole[random.below(row.whole.size())];
  // "moves" is what people type: it gets a third beyond its own share.
  const Verb& verb = random.uniform() < 0.34 ? row.verbs.front() : row.verbs[random.below(row.verbs.size())];
  const std::string& adverb = pick(row.adverbs, random);
  return adverb.empty() ? verb : Verb{verb.finite + " " + adverb, verb.gerund + " " + adverb};
}

void replace_all(std::string& text, const std::string& slot, const std::string& value) {
  for (size_t at = text.find(slot); at != std::string::npos; at = text.find(slot, at + value.size()))
    text.replace(at, slot.size(), value);
}

void choose_articles(std::string& text) {
  const std::string slot = "{a}";
  for (size_t at = text.find(slot); at != std::string::npos; at = text.find(slot)) {
    const size_t next = at + slot.size() + 1;
    const bool vowel = next < text.size() && std::string("aeiou").find(text[next]) != std::string::npos;
    text.replace(at, slot.size(), vowel ? "an" : "a");
  }
}

void add_words(std::set<std::string>& words, const std::string& text) {
  std::string word;
  bool in_slot = false;
  for (const char c : text + " ") {
    if (c == '{') in_slot = true;
    if (std::isalpha(static_cast<unsigned char>(c)) && !in_slot) {
      word += c;
    } else if (!word.empty()) {
      words.insert(word);
      word.clear();
    }
    if (c == '}') in_slot = false;
  }
}

}  // namespace

std::string caption(const Scene& scene, uint64_t seed) {
  Random random(join(seed, key_of("caption")));
  const ShapeRow& shape = shape_row(scene.shape);
  const BackgroundRow& background = background_row(scene.background);
  std::string text = pick(sentences(), random);
  const Verb motion = pick_motion(motion_row(scene.motion), random);
  const std::string size = scene.size.empty() ? "" : scene.size + " ";
  replace_all(text, "{object}", size + "{colour} {shape}");
  if (text.find("that is {colour}") != std::string::npos) replace_all(text, "{shape}", size + "{shape}");
  replace_all(text, "{colour}", pick(colour_row(scene.colour).words, random));
  replace_all(text, "{shape}", pick(shape.nouns, random));
  replace_all(text, "{moves}", motion.finite);
  replace_all(text, "{moving}", motion.gerund);
  replace_all(text, "{place}", pick(background.places, random));
  replace_all(text, "{scenery}", pick(background.scenery, random));
  choose_articles(text);
  if (random.uniform() < 0.15) text += '.';
  return text;
}

std::vector<std::string> vocabulary(const WorldConfig& config) {
  std::set<std::string> words = {"a", "an", "the"};
  for (const auto& text : sentences()) add_words(words, text);
  for (const auto& size : config.sizes) add_words(words, size.name);
  for (const auto& name : config.shapes) {
    for (const auto& text : shape_row(name).nouns) add_words(words, text);
  }
  for (const auto& name : config.colours) {
    for (const auto& text : colour_row(name).words) add_words(words, text);
  }
  for (const auto& name : config.motions) {
    const MotionRow& row = motion_row(name);
    for (const auto& text : row.adverbs) add_words(words, text);
    for (const auto* verbs : {&row.verbs, &row.whole}) {
      for (const Verb& verb : *verbs) add_words(words, verb.finite + " " + verb.gerund);
    }
  }
  for (const auto& name : config.backgrounds) {
    const BackgroundRow& row = background_row(name);
    for (const auto* texts : {&row.places, &row.scenery}) {
      for (const auto& text : *texts) add_words(words, text);
    }
  }
  return {words.begin(), words.end()};
}

std::string tokenizer_json(const WorldConfig& config) {
  using nlohmann::json;
  // A whole word always beats its letters, and letters beat <unk>.
  constexpr double kWord = -5.0, kSpace = -9.0, kLetter = -12.0;
  const std::vector<std::string> specials = {"<pad>", "</s>", "<unk>"};
  json vocab = json::array(), added = json::array();
  for (size_t id = 0; id < specials.size(); ++id) {
    vocab.push_back({specials[id], 0.0});
    added.push_back({{"id", id},
                     {"content", specials[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  vocab.push_back({kMetaspace, kSpace});
  for (const auto& word : vocabulary(config)) vocab.push_back({kMetaspace + word, kWord});
  for (char c = '!'; c <= '~'; ++c) {
    if (c < 'A' || c > 'Z') vocab.push_back({std::string(1, c), kLetter});
  }
  // ASCII lower case as replacements, which every reader of the format has; captions hold no other capitals.
  json lower = json::array();
  for (char c = 'A'; c <= 'Z'; ++c) {
    lower.push_back({{"type", "Replace"},
                     {"pattern", {{"String", std::string(1, c)}}},
                     {"content", std::string(1, static_cast<char>(c - 'A' + 'a'))}});
  }
  const json metaspace = {
      {"type", "Metaspace"}, {"replacement", kMetaspace}, {"prepend_scheme", "always"}, {"split", true}};
  const json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json second = {{"Sequence", {{"id", "B"}, {"type_id", 0}}}};
  const json end = {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}};
  const json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", {{"type", "Sequence"}, {"normalizers", lower}}},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {{{"type", "WhitespaceSplit"}}, metaspace}}}},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {sequence, end}},
        {"pair", {sequence, end, second, end}},
        {"special_tokens", {{"</s>", {{"id", "</s>"}, {"ids", {1}}, {"tokens", {"</s>"}}}}}}}},
      {"decoder", metaspace},
      {"model", {{"type", "Unigram"}, {"unk_id", 2}, {"vocab", vocab}, {"byte_fallback", false}}},
  };
  return tokenizer.dump(1, ' ', true) + "\n";
}

}  // namespace kinora::world
