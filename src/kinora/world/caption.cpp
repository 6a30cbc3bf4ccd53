// Captions. The grammar is a list of sentences with slots that the tables fill.
#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <vector>

#include "kinora/world/random.h"
#include "kinora/world/tables.h"
#include "kinora/world/world.h"

namespace kinora::world {
namespace {

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

// Slots of two objects end in 1 or 2. What is said of motion follows the name of its object, so that no sentence leaves
// open which object does what.
const std::vector<std::string>& pair_sentences() {
  static const std::vector<std::string> all = {
      "{a} {object1} {moves1} and {a} {object2} {moves2} {place}",
      "{a} {object1} {moves1} and {a} {object2} {moves2} {place}",
      "{a} {object1} {moves1} and {a} {object2} {moves2} {place}",
      "the {object1} {moves1} and the {object2} {moves2} {place}",
      "{object1} {moves1} and {object2} {moves2} {place}",
      "{place} {a} {object1} {moves1} and {a} {object2} {moves2}",
      "{a} {object1} {moves1} {place} and {a} {object2} {moves2}",
      "{a} {object1} {moves1} while {a} {object2} {moves2} {place}",
      "{a} {object1} is {moving1} and {a} {object2} is {moving2} {place}",
      "{a} {object1} {moving1} and {a} {object2} {moving2} {place}",
      "{object1} {moving1} and {object2} {moving2}, {scenery}",
      "{a} {object1} and {a} {object2} {place}, the {shape1} {moves1} and the {shape2} {moves2}",
      "{a} {object1} and {a} {object2} {place}, the {shape2} {moves2} and the {shape1} {moves1}",
      "there is {a} {object1} and {a} {object2} {place}, the {colour1} one {moves1}, the {colour2} one {moves2}",
      "{a} video of {a} {object1} {moving1} and {a} {object2} {moving2} {place}",
      "{a} clip of {a} {object1} that {moves1} and {a} {object2} that {moves2} {place}",
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
  return {verb.finite + " " + adverb, verb.gerund + " " + adverb};
}

void replace_all(std::string& text, const std::string& slot, const std::string& value) {
  for (size_t at = text.find(slot); at != std::string::npos; at = text.find(slot, at + value.size()))
    text.replace(at, slot.size(), value);
}

/// Fills the slots of one object; `number` is what its slots end in.
void describe(std::string& text, const Object& object, const std::string& number, Random& random, Random& sizes) {
  constexpr double kSizeLeftOut = 0.15;
  const auto slot = [&](const char* name) { return "{" + (name + number) + "}"; };
  const Verb motion = pick_motion(motion_row(object.motion), random);
  std::string size;
  if (!object.size.empty() && sizes.uniform() >= kSizeLeftOut) size = pick(size_words(object.size), sizes) + " ";
  if (text.find("that is " + slot("colour")) != std::string::npos)
    replace_all(text, slot("shape"), size + slot("shape"));
  replace_all(text, slot("object"), size + slot("colour") + " " + slot("shape"));
  replace_all(text, slot("colour"), pick(colour_row(object.colour).words, random));
  replace_all(text, slot("shape"), pick(shape_row(object.shape).nouns, random));
  replace_all(text, slot("moves"), motion.finite);
  replace_all(text, slot("moving"), motion.gerund);
}

void choose_articles(std::string& text) {
  const std::string slot = "{a}";
  for (size_t at = text.find(slot); at != std::string::npos; at = text.find(slot)) {
    const size_t next = at + slot.size() + 1;
    const bool vowel = next < text.size() && std::string("aeiou").find(text[next]) != std::string::npos;
    text.replace(at, slot.size(), vowel ? "an" : "a");
  }
}

/// The words of a text; its slots are none.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  bool in_slot = false;
  for (const char c : text + " ") {
    if (c == '{') in_slot = true;
    if (std::isalpha(static_cast<unsigned char>(c)) && !in_slot) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(word);
      word.clear();
    }
    if (c == '}') in_slot = false;
  }
  return words;
}

std::vector<std::string> motion_phrases(const MotionRow& row, std::string Verb::*form) {
  std::vector<std::string> all;
  for (const Verb& verb : row.whole) all.push_back(verb.*form);
  for (const Verb& verb : row.verbs) {
    for (const auto& adverb : row.adverbs) all.push_back(verb.*form + " " + adverb);
  }
  return all;
}

/// What can stand in each slot of a world's captions.
struct Phrases {
  std::vector<std::string> sizes, colours, shapes, moves, moving, places, scenery;
  std::vector<std::string> texts;  ///< the sentences
};

Phrases phrases_of(const WorldConfig& config) {
  Phrases all;
  const auto add = [](std::vector<std::string>& to, const std::vector<std::string>& more) {
    to.insert(to.end(), more.begin(), more.end());
  };
  for (const SizeRange& size : config.sizes) add(all.sizes, size_words(size.name));
  for (const auto& name : config.shapes) add(all.shapes, shape_row(name).nouns);
  for (const auto& name : config.colours) add(all.colours, colour_row(name).words);
  for (const auto& name : config.motions) {
    add(all.moves, motion_phrases(motion_row(name), &Verb::finite));
    add(all.moving, motion_phrases(motion_row(name), &Verb::gerund));
  }
  for (const auto& name : config.backgrounds) {
    add(all.places, background_row(name).places);
    add(all.scenery, background_row(name).scenery);
  }
  if (config.pairs < 1.0) add(all.texts, sentences());
  if (config.pairs > 0.0) add(all.texts, pair_sentences());
  return all;
}

}  // namespace

std::string caption(const Scene& scene, uint64_t seed) {
  Random random(join(seed, key_of("caption"))), sizes(join(seed, key_of("sizes")));
  const BackgroundRow& background = background_row(scene.background);
  const bool pair = scene.objects.size() == 2;
  std::string text = pick(pair ? pair_sentences() : sentences(), random);
  if (pair) {
    const size_t first = random.below(2);
    describe(text, scene.objects[first], "1", random, sizes);
    describe(text, scene.objects[1 - first], "2", random, sizes);
  } else {
    describe(text, scene.objects.at(0), "", random, sizes);
  }
  replace_all(text, "{place}", pick(background.places, random));
  replace_all(text, "{scenery}", pick(background.scenery, random));
  choose_articles(text);
  if (random.uniform() < 0.15) text += '.';
  return text;
}

Scene as_told(Scene scene, const std::string& caption) {
  const std::vector<std::string> words = words_of(caption);
  size_t told = 0;
  for (const Object& object : scene.objects) {
    const std::vector<std::string> names = size_words(object.size);
    const auto is_name = [&](const std::string& word) {
      return std::find(names.begin(), names.end(), word) != names.end();
    };
    told = std::max(told, static_cast<size_t>(std::count_if(words.begin(), words.end(), is_name)));
  }
  if (told < scene.objects.size()) {
    for (Object& object : scene.objects) object.size.clear();
  }
  return scene;
}

std::vector<std::string> vocabulary(const WorldConfig& config) {
  const Phrases all = phrases_of(config);
  std::set<std::string> words = {"a", "an", "the"};
  for (const auto* texts :
       {&all.sizes, &all.colours, &all.shapes, &all.moves, &all.moving, &all.places, &all.scenery, &all.texts}) {
    for (const auto& text : *texts) {
      for (const auto& word : words_of(text)) words.insert(word);
    }
  }
  return {words.begin(), words.end()};
}

int64_t longest_caption(const WorldConfig& config) {
  const Phrases all = phrases_of(config);
  const auto longest = [](const std::vector<std::string>& texts) {
    size_t most = 0;
    for (const auto& text : texts) most = std::max(most, words_of(text).size());
    return static_cast<int64_t>(most);
  };
  const int64_t size = longest(all.sizes), colour = longest(all.colours), shape = longest(all.shapes);
  const int64_t object = size + colour + shape;
  const std::pair<const char*, int64_t> slots[] = {{"{a}", 1},
                                                   {"{object", object},
                                                   {"that is {colour", size + colour},
                                                   {"{colour", colour},
                                                   {"{shape", shape},
                                                   {"{moves", longest(all.moves)},
                                                   {"{moving", longest(all.moving)},
                                                   {"{place", longest(all.places)},
                                                   {"{scenery", longest(all.scenery)}};
  int64_t most = 0;
  for (const auto& text : all.texts) {
    auto words = static_cast<int64_t>(words_of(text).size());
    std::string rest = text;
    for (const auto& [slot, length] : slots) {
      for (size_t at = rest.find(slot); at != std::string::npos; at = rest.find(slot)) {
        words += length;
        rest.erase(at, std::string(slot).size());
      }
    }
    most = std::max(most, words);
  }
  return most;
}

}  // namespace kinora::world
