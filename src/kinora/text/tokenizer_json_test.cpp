#include "kinora/text/tokenizer_json.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/text/pipeline.h"

namespace kinora::text {
namespace {

const std::string kData = "tests/cases/text/";

Pipeline parse(const std::string& model, const std::string& rest) {
  return parse_tokenizer_json("{\"model\":" + model + (rest.empty() ? "" : "," + rest) + "}", "tokenizer.json");
}
const std::string kModel =
    R"({"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a",-1],["b",-2],["\u2581",-3],["<0x63>",-4]]})";

/// As the inside of a JSON string.
std::string json_text(std::string_view text) {
  const std::string quoted = Json(std::string(text)).dump();
  return quoted.substr(1, quoted.size() - 2);
}

TEST(TokenizerJson, NamesTheKindsItDoesNotTake) {
  const auto expect_named = [](const std::string& model, const std::string& rest, const std::string& name) {
    try {
      parse(model, rest);
      FAIL() << name;
    } catch (const DataError& e) {
      EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
    }
  };
  expect_named(R"({"type":"WordPiece"})", "", "WordPiece");
  expect_named(R"({"type":"BPE","end_of_word_suffix":"</w>"})", "", "</w>");
  expect_named(R"({"type":"BPE","dropout":0.1})", "", "dropout");
  expect_named(kModel, R"("normalizer":{"type":"BertNormalizer"})", "BertNormalizer");
  expect_named(kModel, R"("normalizer":{"type":"Replace","pattern":{"Regex":"a+"},"content":""})", "a+");
  expect_named(kModel, R"("pre_tokenizer":{"type":"Digits"})", "Digits");
  expect_named(kModel, R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a+)+"},"behavior":"Isolated"})",
               "(a+)+");
  expect_named(kModel,
               R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":")" + json_text(WordPattern::kGpt2) +
                   R"("},"behavior":"Removed"})",
               "Removed");
  expect_named(kModel, R"("pre_tokenizer":{"type":"Metaspace","prepend_scheme":"last"})", "last");
  expect_named(kModel, R"("post_processor":{"type":"RobertaProcessing"})", "RobertaProcessing");
  expect_named(kModel, R"("decoder":{"type":"WordPiece"})", "WordPiece");
  expect_named(kModel, R"("decoder":{"type":"Sequence","decoders":[{"type":"Fuse"}]})", "Fuse");
  expect_named(kModel,
               R"("decoder":{"type":"Sequence","decoders":[{"type":"Strip","content":" ","start":2,"stop":0}]})",
               "Strip");
}

// By the item of the list of checks; the words must stand in the message.
TEST(TokenizerJson, EachBadFileGivesItsErrorAndNoneIsAccepted) {
  const auto model = [](const std::string& body) { return "{\"model\":" + body + "}"; };
  const auto with = [](const std::string& rest) { return "{\"model\":" + kModel + "," + rest + "}"; };
  const auto added = [&](const std::string& tokens) { return with("\"added_tokens\":[" + tokens + "]"); };
  const auto map = [&](const std::string& base64) {
    return with(R"("normalizer":{"type":"Precompiled","precompiled_charsmap":")" + base64 + "\"}");
  };
  const auto ends = [&](const std::string& single) {
    return with(R"("post_processor":{"type":"TemplateProcessing","single":)" + single +
                R"(,"special_tokens":{"x":{"ids":[9]},"y":{"ids":[-1]},"z":{"ids":[1.0]}}})");
  };
  const std::string text = R"({"Sequence":{}},)";
  std::vector<std::array<std::string, 3>> bad = {
      {"0 no JSON", "{", "not valid JSON"},
      {"0 a list", "[]", "expected an object"},
      {"0 no model", "{}", "\"model\" is missing"},
      {"0 deep", with("\"x\":" + std::string(100, '[') + std::string(100, ']')), "deeper than 64"},
      {"0 key twice", R"({"model":{},"model":{}})", "occurs twice"},
      {"1 no pieces", model(R"({"unk_id":0,"vocab":[]})"), "a vocabulary of 0 pieces"},
      {"1 long piece", model("{\"unk_id\":0,\"vocab\":[[\"" + std::string(1025, 'x') + "\",0]]}"), "1025 bytes"},
      {"1 not a pair", model(R"({"unk_id":0,"vocab":[["a"]]})"), "vocab entry 0 is not [text, score]"},
      {"1 text is a number", model(R"({"unk_id":0,"vocab":[[1,0]]})"), "vocab entry 0 is not [text, score]"},
      {"1 score is text", model(R"({"unk_id":0,"vocab":[["a","0"]]})"), "vocab entry 0 is not [text, score]"},
      {"1 score is not finite", model(R"({"unk_id":0,"vocab":[["a",1e999]]})"), "not valid JSON"},
      {"1 added token too long", added("{\"id\":5,\"content\":\"" + std::string(1025, 'x') + "\"}"), "too long"},
      {"1 ids of pieces", model(R"({"type":"BPE","vocab":{"a":0,"b":2},"merges":[]})"), "each of 0 to 1 once"},
      {"1 an id twice", model(R"({"type":"BPE","vocab":{"a":0,"b":0},"merges":[]})"), "each of 0 to 1 once"},
      {"1 an id as text", model(R"({"type":"BPE","vocab":{"a":"0"},"merges":[]})"), "each of 0 to 0 once"},
      {"1 no merge", model(R"({"type":"BPE","vocab":{"a":0},"merges":["a"]})"), "not two pieces"},
      {"1 three in a merge", model(R"({"type":"BPE","vocab":{"a":0},"merges":["a a a"]})"), "not two pieces"},
      {"2 twice", model(R"({"unk_id":0,"vocab":[["a",0],["a",0]]})"), "is there twice"},
      {"2 id of another piece", added(R"({"id":1,"content":"new"})"), "has the id of another piece"},
      {"2 another id of a piece", added(R"({"id":2,"content":"a"})"), "has the id of another piece"},
      {"2 a gap", added(R"({"id":7,"content":"gap"})"), "leave a gap"},
      {"2 id twice", added(R"({"id":5,"content":"x"},{"id":5,"content":"y"})"), "there twice"},
      {"2 content twice", added(R"({"id":5,"content":"x"},{"id":6,"content":"x"})"), "there twice"},
      {"2 no content", added(R"({"id":5,"content":""})"), "is empty"},
      {"2 negative", added(R"({"id":-1,"content":"x"})"), "from 0 to 1000000"},
      {"2 above a million", added(R"({"id":1000001,"content":"x"})"), "from 0 to 1000000"},
      {"2 float", added(R"({"id":5.0,"content":"x"})"), "must be an integer"},
      {"6 no unknown id", model(R"({"vocab":[["a",0]]})"), "\"unk_id\" is missing"},
      {"6 unknown id behind the pieces", model(R"({"unk_id":1,"vocab":[["a",0]]})"), "from 0 to 0"},
      {"6 special id behind the pieces", ends("[" + text + R"({"SpecialToken":{"id":"x"}}])"), "from 0 to 4"},
      {"6 special id below 0", ends("[" + text + R"({"SpecialToken":{"id":"y"}}])"), "from 0 to 4"},
      {"6 special id is a float", ends("[" + text + R"({"SpecialToken":{"id":"z"}}])"), "must be an integer"},
      {"6 special token without ids", ends("[" + text + R"({"SpecialToken":{"id":"w"}}])"), "\"w\" is missing"},
      {"6 template without text", ends("[]"), "has no text"},
      {"6 text twice", ends(R"([{"Sequence":{}},{"Sequence":{}}])"), "has the text twice"},
      {"7 not base64", map("*"), "not base64"},
      {"7 short", map("AAAA"), "only 3 bytes"},
      {"7 trie longer than the map", map("8AAAAGFiY2Q="), "a trie of 240 bytes"},
      {"7 offset outside", map("BAAAAP////94AA=="), "offset 2147483647"},
      {"8 regular expression", with(R"("normalizer":{"type":"Replace","pattern":{"Regex":"(a+)+$"},"content":""})"),
       "(a+)+$"},
      {"8 empty pattern", with(R"("normalizer":{"type":"Replace","pattern":{"String":""},"content":"x"})"),
       "empty pattern"},
      {"8 empty replacement", with(R"("pre_tokenizer":{"type":"Metaspace","replacement":""})"), "empty replacement"},
  };
  std::string many = R"({"unk_id":0,"vocab":[["u",0])";
  for (size_t i = 0; i < kMaxPieces; ++i) many += ",[\"" + std::to_string(i) + "\",0]";
  bad.push_back({"1 too many pieces", model(many + "]}"), "a vocabulary of 1000001 pieces"});
  std::string tokens;
  for (int i = 0; i <= 100'000; ++i) tokens += i ? ",0" : "0";
  bad.push_back({"1 too many added tokens", added(tokens), "100001 added tokens"});
  bad.push_back({"- 64 MiB and a byte", std::string((size_t{64} << 20) + 1, ' '), "at most 67108864"});
  for (const auto& [item, file, words] : bad) {
    try {
      parse_tokenizer_json(file, "x.json");
      ADD_FAILURE() << "accepted: " << item;
    } catch (const DataError& error) {
      const std::string what = error.what();
      EXPECT_EQ(what.rfind("x.json", 0), 0U) << item << ": " << what;
      EXPECT_NE(what.find(words), std::string::npos) << item << ": " << what;
    }
  }
}

TEST(TokenizerJson, EveryCutIsRefused) {
  const std::string whole = read_file(kData + "t5_small_metaspace.tokenizer.json", 1 << 20);
  const std::string text = whole.substr(0, whole.find_last_of('}') + 1);
  ASSERT_NO_THROW(parse_tokenizer_json(text, "x"));
  std::mt19937 random(3);
  for (size_t i = 0; i < 1200; ++i) {
    const size_t size = i < 1000 ? i : random() % text.size();
    EXPECT_THROW(parse_tokenizer_json(std::string_view(text).substr(0, size), "x"), DataError) << size;
  }
}

TEST(TokenizerJson, FlippedBytesGiveAnErrorOrATokenizerThatWorks) {
  const std::string good = "{\"model\":" + kModel + R"(,"added_tokens":[{"id":5,"content":"<x>","lstrip":true}],
      "normalizer":{"type":"Sequence","normalizers":[{"type":"Precompiled","precompiled_charsmap":"BAAAAAAAAIB4AA=="},
      {"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "},{"type":"NFKC"}]},
      "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace"}]},
      "post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{}},{"SpecialToken":{"id":"a"}}],
      "special_tokens":{"a":{"ids":[1]}}},"decoder":{"type":"Metaspace"}})";
  ASSERT_NO_THROW(parse_tokenizer_json(good, "x"));
  std::mt19937 random(7);
  int num_read = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string flipped = good;
    flipped[random() % good.size()] ^= static_cast<char>(1 + random() % 255);
    try {
      const Pipeline pipeline = parse_tokenizer_json(flipped, "x");
      const auto ids = pipeline.encode("a <x>  b \xEF\xBC\xA1 c");
      for (const int64_t id : ids) ASSERT_TRUE(id >= 0 && id < pipeline.vocab_size());
      pipeline.decode(ids);
      ++num_read;
    } catch (const DataError&) {
    }
  }
  EXPECT_GT(num_read, 0);
  EXPECT_LT(num_read, 5000);
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
