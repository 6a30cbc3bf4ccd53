#include "kinora/text/sentencepiece_model.h"

#include <gtest/gtest.h>

#include <cstring>
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

SentencePiece make(const std::string& proto) { return SentencePiece(SentencePieceSpec::parse(proto, "test.model")); }

TEST(SentencePieceModel, RefusesDamage) {
  const std::string bad[] = {
      "",
      "x",
      std::string(11, '\xFF'),
      number(2, 1),                                            // no pieces
      piece("a", -1),                                          // no unknown piece
      kUnk + piece("<unk2>", 0, 2),                            // two
      kUnk + piece("", -1),                                    // no text
      kUnk + piece("a", -1) + piece("a", -1),                  // twice
      kUnk + piece("a", -1, 9),                                // kind of piece
      kUnk + piece("\xFF", -1),                                // not UTF-8
      kUnk + piece(std::string(kMaxPieceBytes + 1, 'a'), -1),  // too long
      kUnk + piece("a", std::numeric_limits<float>::infinity()),
      kUnk + piece("<0x-1>", 0, 6),  // byte piece
      kUnk + piece("<0x1>", 0, 6),
      kUnk + bytes(2, number(3, 2)),     // BPE
      kUnk + bytes(2, number(35, 1)),    // byte fallback without bytes
      kUnk + bytes(3, bytes(2, "abc")),  // character map
      kUnk + bytes(3, bytes(2, std::string("\x04\0\0\0\xFF\xFF\xFF\xFFx\0", 10))),
      kUnk + varint(1U << 3 | 2U) + varint(1000),  // longer than the file
      kUnk + varint(1U << 3 | 3U),                 // group
      kUnk + varint(0) + varint(1),                // field 0
  };
  for (const auto& proto : bad) EXPECT_THROW(make(proto), DataError) << &proto - bad;
  EXPECT_THROW(SentencePiece::load("no/such/spiece.model"), UsageError);
}

TEST(SentencePieceModel, EveryTruncationIsRefusedOrComplete) {
  const std::string whole = read_file(kData + "spiece_small.model", 1 << 20);
  for (size_t size = 0; size < whole.size(); size += size < 2000 ? 1 : 97) {
    try {
      make(whole.substr(0, size)).encode("a red fox");
    } catch (const DataError&) {
    }
  }
}

TEST(SentencePieceModel, FlippedBytesNeverCrash) {
  const std::string whole = read_file(kData + "spiece_bytes.model", 1 << 20);
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    std::string flipped = whole;
    for (int k = 0; k < 3; ++k) flipped[random() % flipped.size()] ^= static_cast<char>(1U << (random() % 8));
    try {
      make(flipped).encode("caf\xC3\xA9 \xEF\xBC\xA1 x\xC2\xB2 \xE2\x80\xA6");
    } catch (const DataError&) {
    }
  }
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
