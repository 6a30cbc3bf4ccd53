// tokenizer.json files, and the tokenizer that is made of one.
#include "kinora/text/tokenizer_json.h"
#include "fuzz.h"

using namespace kinora;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or([&] {
    const text::Pipeline pipeline = text::parse_tokenizer_json(fuzz::text_of(data, size), "fuzz");
    const auto ids =
        pipeline.encode("A red ball \xEF\xBC\xA1\xC3\xA9  moves\tto \xE2\x96\x81</s> \xF0\x9F\x8E\x88 the right.");
    for (const int64_t id : ids) fuzz::promise(id >= 0 && id < pipeline.vocab_size(), "ids are in the vocabulary");
    pipeline.decode(ids);
  });
  return 0;
}
