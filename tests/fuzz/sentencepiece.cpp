// SentencePiece .model files, and the tokenizer that is made of one.
#include "fuzz.h"
#include "kinora/text/sentencepiece_model.h"

using namespace kinora;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or([&] {
    const text::SentencePiece model(text::SentencePieceSpec::parse(fuzz::text_of(data, size), "fuzz"), "fuzz");
    const auto ids =
        model.encode("A red ball \xEF\xBC\xA1\xC3\xA9  moves\tto \xE2\x96\x81<s> \xF0\x9F\x8E\x88 the right.");
    for (const int64_t id : ids) fuzz::promise(id >= 0 && id < model.unigram().size(), "ids are in the vocabulary");
    model.decode(ids);
  });
  return 0;
}
