#include "kinora/text/unigram.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "kinora/base/error.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

// Pieces over three letters, so that a short text has many cuts. "c" is missing: it is unknown alone.
std::vector<Piece> random_pieces(std::mt19937& random) {
  std::vector<Piece> pieces = {{"<unk>", 0, PieceKind::kUnknown}};
  for (const char* text : {"a", "b", "ab", "ba", "abc", "bb", "aab", "ca", "\xC3\xA9", "a\xC3\xA9"}) {
    pieces.push_back({text, -0.25 * static_cast<double>(1 + random() % 40)});
  }
  return pieces;
}

TEST(Unigram, CutIsTheBestOfAllCuts) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const auto pieces = random_pieces(random);
    const Unigram model(pieces, 0, UnigramRules::kSentencePiece, "test");
    double lowest = 0;
    for (const Piece& p : pieces) lowest = std::min(lowest, p.score);
    std::u32string wide;
    for (size_t n = random() % 9; n > 0; --n) wide += U"abc\u00E9"[random() % 4];
    const std::string text = encode_utf8(wide);

    const std::function<double(std::string_view)> best = [&](std::string_view rest) -> double {
      if (rest.empty()) return 0;
      const size_t character = utf8_length(rest[0]);
      double score = lowest - 10 + best(rest.substr(character));
      for (size_t id = 1; id < pieces.size(); ++id) {
        if (rest.starts_with(pieces[id].text)) {
          score = std::max(score, pieces[id].score + best(rest.substr(pieces[id].text.size())));
        }
      }
      return score;
    };
    double got = 0;
    size_t end = 0;
    for (const auto& cut : model.best_cut(text)) {
      EXPECT_EQ(cut.begin, end);
      end = cut.end;
      got += cut.id == 0 ? lowest - 10 : model.piece(cut.id).score;
      EXPECT_TRUE(cut.id == 0 || model.piece(cut.id).text == text.substr(cut.begin, cut.end - cut.begin));
    }
    EXPECT_EQ(end, text.size());
    EXPECT_EQ(got, best(text)) << text;  // multiples of 1/4: every sum is exact
  }
}

TEST(Unigram, SpecialPiecesMatchOnlyByTheTokenizersRules) {
  const std::vector<Piece> pieces = {
      {"<unk>", 0, PieceKind::kUnknown}, {"x", -1}, {"</s>", 0, PieceKind::kControl}, {"<0x41>", 0, PieceKind::kByte}};
  const Unigram sentencepiece(pieces, 0, UnigramRules::kSentencePiece, "test");
  EXPECT_EQ(sentencepiece.best_cut("</s>").size(), 4U);
  const Unigram tokenizers(pieces, 0, UnigramRules::kTokenizers, "test");
  ASSERT_EQ(tokenizers.best_cut("</s>").size(), 1U);
  EXPECT_EQ(tokenizers.best_cut("</s>")[0].id, 2);
  EXPECT_EQ(tokenizers.byte_ids()[0x41], 3);
  EXPECT_EQ(tokenizers.byte_ids()[0x42], -1);
  EXPECT_EQ(tokenizers.find("x"), 1);
  EXPECT_EQ(tokenizers.find("y"), -1);
}

TEST(Unigram, StaysUsableWhenMoved) {
  Unigram model({{"<unk>", 0}, {"a", -1}}, 0, UnigramRules::kTokenizers, "test");
  const Unigram moved = std::move(model);
  EXPECT_EQ(moved.find("a"), 1);
}

TEST(Unigram, RefusesBadVocabularies) {
  EXPECT_THROW(Unigram({}, 0, UnigramRules::kTokenizers, "test"), DataError);
  EXPECT_THROW(Unigram({{"a", 0}}, 1, UnigramRules::kTokenizers, "test"), DataError);
  EXPECT_THROW(Unigram({{"a", 0}}, -1, UnigramRules::kTokenizers, "test"), DataError);
  EXPECT_THROW(Unigram({{"a", 0}, {"a", 0}}, 0, UnigramRules::kTokenizers, "test"), DataError);
}

}  // namespace
}  // namespace kinora::text
