#include "kinora/text/sentencepiece_model.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>
#include <random>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/text/unicode.h"
#ifdef KINORA_TEST_SENTENCEPIECE
#include <sentencepiece_processor.h>
#endif

namespace kinora::text {
namespace {

const std::string kData = "tests/cases/text/";

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(0x80 | (value & 0x7F));
  return out + static_cast<char>(value);
}
std::string number(int field, uint64_t value) { return varint(static_cast<uint64_t>(field) << 3) + varint(value); }
std::string bytes(int field, const std::string& value) {
  return varint(static_cast<uint64_t>(field) << 3 | 2U) + varint(value.size()) + value;
}
std::string piece(const std::string& text, float score, int type = 1) {
  std::string raw(4, '\0');
  std::memcpy(raw.data(), &score, 4);
  return bytes(1, bytes(1, text) + varint(2U << 3 | 5U) + raw + number(3, static_cast<uint64_t>(type)));
}
const std::string kUnk = piece("<unk>", 0, 2);
const std::string kRules = bytes(3, "");  // of normalization, as by default

SentencePiece parse(const std::string& proto) {
  return SentencePiece(SentencePieceSpec::parse(proto, "x.model"), "x.model");
}
SentencePiece make(const std::string& proto) { return parse(proto + kRules); }

// By the item of the list of checks; the words must stand in the message.
TEST(SentencePieceModel, EachBadFileGivesItsErrorAndNoneIsAccepted) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::string eleven = std::string(10, '\xFF') + '\x01', above = std::string(9, '\xFF') + '\x02';
  std::vector<std::array<std::string, 3>> bad = {
      {"1 long piece", kUnk + piece(std::string(kMaxPieceBytes + 1, 'a'), -1), "piece 1 has 1025 bytes"},
      {"1 no pieces", number(2, 1), "it has no pieces"},
      {"1 no text", kUnk + piece("", -1), "a piece without text"},
      {"1 not UTF-8", kUnk + piece("\xFF", -1), "piece 1 is not valid UTF-8"},
      {"1 score", kUnk + piece("a", infinity), "score of piece 1 is not finite"},
      {"1 no score", kUnk + piece("a", nan), "score of piece 1 is not finite"},
      {"2 twice", kUnk + piece("a", -1) + piece("a", -1), "\"a\" is there twice"},
      {"3 BPE", kUnk + bytes(2, number(3, 2)), "kind BPE"},
      {"3 words", kUnk + bytes(2, number(3, 3)), "kind word"},
      {"4 negative", kUnk + piece("<0x-1>", 0, 6), "byte piece 1 is"},
      {"4 one digit", kUnk + piece("<0x1>", 0, 6), "byte piece 1 is"},
      {"4 three digits", kUnk + piece("<0x100>", 0, 6), "byte piece 1 is"},
      {"4 no digit", kUnk + piece("<0xG0>", 0, 6), "byte piece 1 is"},
      {"4 a letter behind", kUnk + piece("<0x0x>", 0, 6), "byte piece 1 is"},
      {"4 not all bytes", kUnk + piece("<0x41>", 0, 6) + bytes(2, number(35, 1)), "without all 256 byte pieces"},
      {"5 longer than the file", kUnk + varint(1U << 3 | 2U) + varint(1000), "a field of 1000 bytes"},
      {"5 length near 2^64", kUnk + varint(1U << 3 | 2U) + varint(~uint64_t{0}),
       "a field of 18446744073709551615 bytes"},
      {"5 length near 2^63", kUnk + varint(1U << 3 | 2U) + varint(uint64_t{1} << 63), "a field of 9223372036854775808"},
      {"5 piece longer than its message", kUnk + bytes(1, varint(1U << 3 | 2U) + varint(9) + "a"), "where 1 are left"},
      {"5 eleven bytes", kUnk + eleven, "a number above 64 bits"},
      {"5 above 64 bits", kUnk + above, "a number above 64 bits"},
      {"5 number cut", kUnk + bytes(1, "\xFF"), "ends within a number"},
      {"5 float cut", kUnk + bytes(1, varint(2U << 3 | 5U) + "abc"), "ends within a number"},
      {"5 double cut", kUnk + bytes(1, varint(9U << 3 | 1U) + "abcdefg"), "ends within a number"},
      {"5 group", kUnk + varint(1U << 3 | 3U), "wire type 3"},
      {"5 wire type 7", kUnk + varint(1U << 3 | 7U), "wire type 7"},
      {"5 field 0", kUnk + varint(0) + varint(1), "field number"},
      {"5 field 2^29", kUnk + varint(uint64_t{1} << 32) + varint(1), "field number"},
      {"6 no unknown piece", piece("a", -1), "no unknown piece"},
      {"6 two unknown pieces", kUnk + piece("<unk2>", 0, 2), "two unknown pieces"},
      {"6 kind of piece", kUnk + piece("a", -1, 9), "piece type 9"},
      {"7 short", kUnk + bytes(3, bytes(2, "abc")), "only 3 bytes"},
      {"7 trie longer than the map", kUnk + bytes(3, bytes(2, std::string("\xF0\0\0\0abcd", 8))),
       "a trie of 240 bytes"},
      {"7 trie near 2^32",
       kUnk + bytes(3, bytes(2,
                             "\xFC\xFF\xFF\xFF"
                             "abcd")),
       "a trie of 4294967292 bytes"},
      {"7 odd trie", kUnk + bytes(3, bytes(2, std::string("\x03\0\0\0abcd", 8))), "a trie of 3 bytes"},
      {"7 offset outside", kUnk + bytes(3, bytes(2, std::string("\x04\0\0\0\xFF\xFF\xFF\xFFx\0", 10))),
       "offset 2147483647"},
      {"7 no end", kUnk + bytes(3, bytes(2, std::string("\x04\0\0\0\0\0\0\0xy", 10))), "does not end"},
      {"7 not UTF-8", kUnk + bytes(3, bytes(2, std::string("\x04\0\0\0\0\0\0\0\xFF\0", 10))), "not UTF-8"},
      {"- text", "hello there", "not a SentencePiece model"},
  };
  std::string many = kUnk;
  for (size_t i = 0; i < kMaxPieces; ++i) many += piece(std::to_string(i), -1);
  bad.push_back({"1 too many pieces", many, "more than 1000000 pieces"});
  for (const auto& [item, proto, words] : bad) {
    try {
      make(proto);
      ADD_FAILURE() << "accepted: " << item;
    } catch (const DataError& error) {
      const std::string what = error.what();
      EXPECT_EQ(what.rfind("x.model: ", 0), 0U) << item << ": " << what;
      EXPECT_NE(what.find(words), std::string::npos) << item << ": " << what;
    }
  }
  EXPECT_NO_THROW(make(kUnk + piece(std::string(kMaxPieceBytes, 'a'), -1)));
  EXPECT_THROW(SentencePiece::load("no/such/spiece.model"), UsageError);
}

TEST(SentencePieceModel, EveryCutIsRefused) {
  const std::string whole = read_file(kData + "spiece_small.model", 1 << 20);
  ASSERT_NO_THROW(parse(whole));
  std::mt19937 random(3);
  for (size_t i = 0; i < 1200; ++i) {
    const size_t size = i < 1000 ? i : random() % whole.size();
    EXPECT_THROW(parse(whole.substr(0, size)), DataError) << size;
  }
}

TEST(SentencePieceModel, FlippedBytesGiveAnErrorOrATokenizerThatWorks) {
  std::string good = kUnk + piece("\xE2\x96\x81", -2) + piece("a", -1) + piece("caf\xC3\xA9", -3) +
                     piece("</s>", 0, 3) + piece("!?", -4, 4) + piece("x", -9, 5) +
                     bytes(2, number(3, 1) + number(24, 0) + bytes(44, " ?? "));
  const std::string whole = read_file(kData + "spiece_small.model", 1 << 20);
  good +=
      bytes(3, bytes(2, SentencePieceSpec::parse(whole, "x").charsmap) + number(3, 1) + number(4, 1) + number(5, 1));
  std::mt19937 random(7);
  int num_read = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string flipped = good;
    // The map is large and one flip there is as good as another: most fall into what surrounds it.
    const size_t at = random() % (i % 4 == 0 ? good.size() : 200);
    flipped[at] ^= static_cast<char>(1 + random() % 255);
    try {
      const SentencePiece model = parse(flipped);
      const auto ids = model.encode("caf\xC3\xA9 \xEF\xBC\xA1 x\xC2\xB2 \xE2\x80\xA6 !?");
      for (const int64_t id : ids) ASSERT_TRUE(id >= 0 && id < model.unigram().size());
      model.decode(ids);
      ++num_read;
    } catch (const DataError&) {
    }
  }
  EXPECT_GT(num_read, 0);
  EXPECT_LT(num_read, 9000);
}

TEST(SentencePieceModel, UserDefinedPiecesAlwaysWin) {
  const auto model = make(kUnk + piece("a", -1) + piece("b", -1) + piece("ab", -0.5F) + piece("b!", -50, 4) +
                          piece("\xE2\x96\x81", -2) + piece("unused", -1, 5));
  EXPECT_EQ(model.encode("ab!"), (std::vector<int64_t>{5, 1, 4}));
  EXPECT_EQ(model.encode("unused"), (std::vector<int64_t>{5, 0}));  // a run of unknown characters is one id
}

TEST(SentencePieceModel, WhiteSpaceRulesFollowTheFile) {
  const std::string pieces = kUnk + piece("a", -1);
  EXPECT_EQ(make(pieces + bytes(3, number(3, 0))).normalize(" a  a "),
            "a\xE2\x96\x81"
            "a");
  EXPECT_EQ(make(pieces + bytes(3, number(3, 0) + number(4, 0) + number(5, 0))).normalize(" a  a "), " a  a ");
  EXPECT_EQ(make(pieces + bytes(2, number(24, 1))).normalize(" a "), "a\xE2\x96\x81");
  EXPECT_EQ(make(pieces).normalize("   "), "");
}

TEST(SentencePieceModel, DecodesBytesAndRefusesForeignIds) {
  const auto model = SentencePiece::load(kData + "spiece_bytes.model");
  const std::string text = "snow \xF0\x9F\x99\x82 \xE2\x98\x83";
  EXPECT_EQ(model.decode(model.encode(text)), text);
  const int64_t half = model.unigram().byte_ids()[0xE2];
  EXPECT_EQ(model.decode({half, half}), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_THROW(model.decode({-1}), UsageError);
  EXPECT_THROW(model.decode({model.unigram().size()}), UsageError);
}

#ifdef KINORA_TEST_SENTENCEPIECE
// Random text over characters that the models' maps and pieces care about.
std::string random_text(std::mt19937& random) {
  static const std::u32string kAlphabet =
      U"     aaeeiioouutthsrnd.,!?'-\"ABCTHE0123456789\t\n\u00a0\u200b\u3000\u2581\u00e9\u00df\u0301\u0308\u0327"
      U"\uff21\uff76\uff9e\ufb01\ufb03\u2163\u2460\u00bd\u2026\u00ad\u0001\u007f\u6771\u4eac\u043a\u043e\u0448"
      U"\U0001F642\u200d\ufeff";
  std::u32string text;
  const size_t length = random() % 60;
  for (size_t i = 0; i < length; ++i) text += kAlphabet[random() % kAlphabet.size()];
  return encode_utf8(text);
}

TEST(SentencePieceModel, AgreesWithTheLibraryOnRandomText) {
  for (const std::string name : {"spiece_small.model", "spiece_bytes.model"}) {
    sentencepiece::SentencePieceProcessor oracle;
    ASSERT_TRUE(oracle.Load(kData + name).ok());
    const auto model = SentencePiece::load(kData + name);
    std::mt19937 random(11);
    for (int i = 0; i < 20000; ++i) {
      const std::string text = random_text(random);
      std::vector<int> want;
      ASSERT_TRUE(oracle.Encode(text, &want).ok());
      const auto got = model.encode(text);
      ASSERT_EQ(got, std::vector<int64_t>(want.begin(), want.end())) << i << ": " << text;
      std::string decoded;
      ASSERT_TRUE(oracle.Decode(want, &decoded).ok());
      ASSERT_EQ(model.decode(got), decoded) << i << ": " << text;
    }
  }
}
#endif

}  // namespace
}  // namespace kinora::text
