// JSON of configs and requests.
#include "kinora/base/json.h"
#include "fuzz.h"

using namespace kinora;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or([&] {
    const Json value = parse_json(fuzz::text_of(data, size), {}, "fuzz");
    std::string again;
    try {
      again = value.dump();
    } catch (const Json::exception&) {
      fuzz::promise(false, "what is parsed can be written");
    }
    // Written out it may be larger than the cap on what is read.
    fuzz::promise(parse_json(again, {.max_bytes = kJsonHeaderBytes}, "again") == value,
                  "what is written parses to the same");
  });
  return 0;
}
