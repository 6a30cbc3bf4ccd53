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

Pipeline parse(const std::string& model, const std::string& rest) {
  return parse_tokenizer_json("{\"model\":" + model + (rest.empty() ? "" : "," + rest) + "}", "tokenizer.json");
}
const std::string kModel =
    R"({"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a",-1],["b",-2],["\u2581",-3],["<0x63>",-4]]})";

TEST(TokenizerJson, NamesTheKindsItDoesNotTake) {
  const auto expect_named = [](const std::string& model, const std::string& rest, const std::string& name) {
    try {
      parse(model, rest);
      FAIL() << name;
    } catch (const DataError& e) {
      EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
    }
  };
  expect_named(R"({"type":"BPE"})", "", "BPE");
  expect_named(kModel, R"("normalizer":{"type":"BertNormalizer"})", "BertNormalizer");
  expect_named(kModel, R"("normalizer":{"type":"Replace","pattern":{"Regex":"a+"},"content":""})", "a+");
  expect_named(kModel, R"("pre_tokenizer":{"type":"ByteLevel"})", "ByteLevel");
  expect_named(kModel, R"("pre_tokenizer":{"type":"Metaspace","prepend_scheme":"last"})", "last");
  expect_named(kModel, R"("post_processor":{"type":"RobertaProcessing"})", "RobertaProcessing");
  expect_named(kModel, R"("decoder":{"type":"WordPiece"})", "WordPiece");
}

TEST(TokenizerJson, RefusesDamage) {
  const std::string bad_models[] = {
      "[]",
      R"({"unk_id":0,"vocab":[]})",
      R"({"vocab":[["a",0]]})",
      R"({"unk_id":1,"vocab":[["a",0]]})",
      R"({"unk_id":0,"vocab":[["a",0],["a",0]]})",
      R"({"unk_id":0,"vocab":[["a"]]})",
      R"({"unk_id":0,"vocab":[[1,0]]})",
      "{\"unk_id\":0,\"vocab\":[[\"" + std::string(kMaxPieceBytes + 1, 'x') + "\",0]]}",
  };
  for (const auto& model : bad_models) EXPECT_THROW(parse(model, ""), DataError) << model;
  const std::string bad_rest[] = {
      R"("added_tokens":[{"id":1,"content":"new"}])",
      R"("added_tokens":[{"id":2,"content":"a"}])",
      R"("added_tokens":[{"id":7,"content":"gap"}])",
      R"("added_tokens":[{"id":5,"content":""}])",
      R"("added_tokens":[{"id":5,"content":"x"},{"id":6,"content":"x"}])",
      R"("normalizer":{"type":"Precompiled","precompiled_charsmap":"*"})",
      R"("normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"})",
      R"("normalizer":{"type":"Replace","pattern":{"String":""},"content":"x"})",
      R"("post_processor":{"type":"TemplateProcessing","single":[],"special_tokens":{}})",
      R"("post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{}},{"SpecialToken":{"id":"x"}}],)"
      R"("special_tokens":{"x":{"ids":[9]}}})",
  };
  for (const auto& rest : bad_rest) EXPECT_THROW(parse(kModel, rest), DataError) << rest;
}

TEST(TokenizerJson, AddedTokensTakeTheWhiteSpaceTheyAskFor) {
  const Pipeline pipeline = parse(kModel, R"("pre_tokenizer":{"type":"Metaspace"},"added_tokens":[
      {"id":5,"content":"<x>","lstrip":true,"rstrip":true,"special":true},
      {"id":6,"content":"w","single_word":true,"normalized":false},{"id":7,"content":"<x>y"}])");
  EXPECT_EQ(pipeline.encode("a  <x>  b"), (std::vector<int64_t>{3, 1, 5, 3, 2}));
  EXPECT_EQ(pipeline.encode("w aw"), (std::vector<int64_t>{6, 3, 1, 0}));
  EXPECT_EQ(pipeline.decode({1, 5, 3, 2}), "a b");
}

TEST(TokenizerJson, NormalizedTokensAreLookedForAsTheNormalizersWriteThem) {
  const Pipeline pipeline = parse(kModel, R"("normalizer":{"type":"NFKC"},"added_tokens":[
      {"id":5,"content":"\uff38","normalized":true},{"id":6,"content":"\uff38\uff39","normalized":false}])");
  EXPECT_EQ(pipeline.encode("aXb"), (std::vector<int64_t>{1, 5, 2}));
  EXPECT_EQ(pipeline.encode("a\xEF\xBC\xB8\xEF\xBC\xB9"), (std::vector<int64_t>{1, 6}));
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

TEST(TokenizerJson, MetaspaceFirstMarksOnlyTheStart) {
  const Pipeline pipeline =
      parse(kModel, R"("pre_tokenizer":{"type":"Metaspace","prepend_scheme":"first","split":false},
      "added_tokens":[{"id":5,"content":"<x>","special":true}])");
  EXPECT_EQ(pipeline.encode("a<x>b"), (std::vector<int64_t>{3, 1, 5, 2}));
}

TEST(TokenizerJson, UnknownRunsAreOneIdAndBytesSpellThem) {
  const std::string bytes = R"({"unk_id":0,"byte_fallback":true,"vocab":[["<unk>",0],["a",-1],["<0x63>",-4]]})";
  EXPECT_EQ(parse(bytes, "").encode("accax"), (std::vector<int64_t>{1, 2, 2, 1, 0}));
  EXPECT_EQ(parse(bytes, "").decode({1, 2, 2}), "acc");
  EXPECT_EQ(parse(kModel, "").encode("accax"), (std::vector<int64_t>{1, 0, 1, 0}));
}

}  // namespace
}  // namespace kinora::text
