#include "kinora/text/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/text/case_for_test.h"
#include "kinora/text/tokenizer_json.h"

namespace kinora::text {
namespace {

const std::string kData = "tests/cases/text/";

Tokenizer small_t5() { return Tokenizer::t5(SentencePieceSpec::read(kData + "spiece_small.model"), 4); }

template <typename Encode>
void expect_ids(const TestCase& reference, Encode encode) {
  const auto texts = reference.texts();
  const auto want = reference.id_lists();
  ASSERT_EQ(texts.size(), want.size());
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(encode(texts[i]), want[i]) << i << ": " << texts[i];
}

TEST(TokenizerParity, SentencePieceIdsAreTheReferences) {
  for (const std::string name : {"small", "bytes"}) {
    const auto model = SentencePiece::load(kData + "spiece_" + name + ".model");
    expect_ids(TestCase("text/sentencepiece_" + name), [&](const std::string& text) {
      auto ids = model.encode(text);
      ids.push_back(1);
      return ids;
    });
  }
}

TEST(TokenizerParity, SentencePieceNormalizesAsTheReference) {
  const TestCase reference("text/sentencepiece_small_normalize");
  const auto model = SentencePiece::load(kData + "spiece_small.model");
  const auto texts = reference.texts();
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(model.normalize(texts[i]), reference.meta["results"]["normalized"][i].get<std::string>());
  }
}

TEST(TokenizerParity, SentencePieceDecodesAsTheReference) {
  const TestCase reference("text/sentencepiece_small_decode");
  const auto model = SentencePiece::load(kData + "spiece_small.model");
  expect_ids(reference, [&](const std::string& text) { return model.encode(text); });
  const auto ids = reference.id_lists();
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(model.decode(ids[i]), reference.meta["results"]["decoded"][i].get<std::string>());
  }
}

TEST(TokenizerParity, TokenizerJsonIdsAreTheReferences) {
  for (const std::string name : {"metaspace", "whitespace_split"}) {
    const Tokenizer tokenizer(read_tokenizer_json(kData + "t5_small_" + name + ".tokenizer.json"));
    expect_ids(TestCase("text/tokenizer_json_" + name),
               [&](const std::string& text) { return tokenizer.encode(text).ids; });
  }
}

TEST(TokenizerParity, T5TokenizerIdsAreTheReferences) {
  const Tokenizer tokenizer = small_t5();
  expect_ids(TestCase("text/t5_tokenizer"), [&](const std::string& text) { return tokenizer.encode(text).ids; });
}

TEST(TokenizerParity, T5TokenizerCutsAndPadsAsTheReference) {
  const TestCase reference("text/t5_tokenizer_padded24");
  const Tokenizer tokenizer = small_t5();
  std::vector<int32_t> ids;
  std::vector<int32_t> mask;
  for (const std::string& text : reference.texts()) {
    const Encoded encoded = tokenizer.encode(text, {.max_length = 24, .pad_to = 24});
    ids.insert(ids.end(), encoded.ids.begin(), encoded.ids.end());
    mask.insert(mask.end(), encoded.attention_mask.begin(), encoded.attention_mask.end());
  }
  EXPECT_EQ(ids, reference.ints("input_ids"));
  EXPECT_EQ(mask, reference.ints("attention_mask"));
}

TEST(Tokenizer, LoadsAFolderAndPrefersSpiece) {
  const TempFolder temp;
  const auto& folder = temp.path();
  EXPECT_THROW(Tokenizer::load(folder), UsageError);
  std::filesystem::copy_file(kData + "t5_small_metaspace.tokenizer.json", folder / "tokenizer.json");
  EXPECT_EQ(Tokenizer::load(folder).vocab_size(), 1604);
  std::filesystem::copy_file(kData + "spiece_small.model", folder / "spiece.model");
  EXPECT_EQ(Tokenizer::load(folder).vocab_size(), 1700);  // 100 extra ids where nothing says otherwise
  std::ofstream(folder / "tokenizer_config.json") << R"({"extra_ids": 4})";
  const Tokenizer tokenizer = Tokenizer::load(folder);
  EXPECT_EQ(tokenizer.vocab_size(), 1604);
  EXPECT_EQ(tokenizer.encode("<extra_id_0>x").ids.front(), 1603);
  std::ofstream(folder / "tokenizer_config.json") << R"({"extra_ids": -1})";
  EXPECT_THROW(Tokenizer::load(folder), DataError);
}

TEST(Tokenizer, EosAndCuttingFollowTheOptions) {
  const Tokenizer tokenizer = small_t5();
  const auto whole = tokenizer.encode("a red fox walks along");
  EXPECT_EQ(whole.ids.back(), 1);
  const auto bare = tokenizer.encode("a red fox walks along", {.add_eos = false});
  EXPECT_EQ(bare.ids.size() + 1, whole.ids.size());
  const auto cut = tokenizer.encode("a red fox walks along", {.max_length = 3});
  EXPECT_EQ(cut.ids, (std::vector<int64_t>{whole.ids[0], whole.ids[1], 1}));
  EXPECT_EQ(tokenizer.encode("", {.pad_to = 3}).ids, (std::vector<int64_t>{1, 0, 0}));
  EXPECT_THROW(tokenizer.encode("a red fox", {.max_length = 2, .truncate = false}), UsageError);
  EXPECT_THROW(tokenizer.encode("a red fox", {.pad_to = 2}), UsageError);
  EXPECT_EQ(tokenizer.decode(whole.ids), "a red fox walks along");
  EXPECT_THROW(tokenizer.decode({1604}), UsageError);
  EXPECT_THROW(tokenizer.decode({-1}), UsageError);
}

TEST(Tokenizer, RefusesLongAndBrokenText) {
  const Tokenizer tokenizer = small_t5();
  EXPECT_NO_THROW(tokenizer.encode(std::string(kMaxTextBytes, 'x')));
  EXPECT_THROW(tokenizer.encode(std::string(kMaxTextBytes + 1, 'x')), UsageError);
  for (const std::string text : {"\xFF", "a\xC3", "\xED\xA0\x80", "\xC0\x80", "\xF5\x80\x80\x80"}) {
    EXPECT_THROW(tokenizer.encode(text), UsageError);
  }
  EXPECT_NO_THROW(tokenizer.encode(std::string("nul \0 inside", 12)));
}

TEST(PrefixFinder, FindsTheLongestAndOfEqualOnesTheFirst) {
  const PrefixFinder finder({"ab", "", "abc", "b", "ab", "\xFF"});
  EXPECT_EQ(finder.longest("abcd"), 2U);
  EXPECT_EQ(finder.longest("abd"), 0U);
  EXPECT_EQ(finder.longest("\xFF"), 5U);
  for (const char* text : {"", "a", "cab"}) EXPECT_EQ(finder.longest(text), std::nullopt) << text;
  EXPECT_EQ(finder.size_of(2), 3U);
  EXPECT_EQ(PrefixFinder().longest("a"), std::nullopt);
}

}  // namespace
}  // namespace kinora::text
