// GIF files.
#include <span>

#include "fuzz.h"
#include "kinora/media/gif.h"

using namespace kinora;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A few bytes may stand for a gigabyte of black pixels; the limits have unit tests, here that only takes time.
  const bool large = size >= 10 && (data[7] > 1 || data[9] > 1);
  if (large) return 0;
  fuzz::refuse_or([&] {
    const media::Gif gif = media::decode_gif(std::span(data, size), "fuzz");
    media::check(gif.frames);
  });
  return 0;
}
