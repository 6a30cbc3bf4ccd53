// The tokenizer that reads captions.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kinora/world/world.h"

namespace kinora::world {
namespace {

constexpr const char* kMetaspace = "\xE2\x96\x81";  // U+2581

}  // namespace

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
