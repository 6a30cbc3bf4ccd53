// PNG files. A mutation breaks a chunk's checksum, and libpng would refuse it before anything is read: the bytes are
// also tried with their checksums made right.
#include <span>
#include <vector>

#include "fuzz.h"
#include "kinora/base/file.h"
#include "kinora/media/png.h"

using namespace kinora;

namespace {

constexpr size_t kSignatureBytes = 8;

uint32_t big_endian(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | uint32_t{at[3]};
}

/// The same chunks with their checksums right, up to the first that is cut.
std::vector<uint8_t> with_checksums(std::span<const uint8_t> png) {
  std::vector<uint8_t> out(png.begin(), png.end());
  size_t at = kSignatureBytes;
  while (at + 12 <= out.size()) {
    const uint32_t length = big_endian(&out[at]);
    if (length > out.size() - at - 12) break;
    const uint32_t sum = crc32(std::as_bytes(std::span(out).subspan(at + 4, size_t{4} + length)));
    at += size_t{8} + length;
    for (const int shift : {24, 16, 8, 0}) out[at++] = static_cast<uint8_t>(sum >> shift);
  }
  return out;
}

void read(std::span<const uint8_t> bytes) {
  fuzz::refuse_or([&] {
    const media::Picture picture = media::decode_png(bytes, "fuzz");
    media::check(picture.frames);
    const media::Picture again = media::decode_png(media::encode_png(picture.frames), "again");
    fuzz::promise(again.frames.rgb == picture.frames.rgb, "what is written reads as the same");
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The limits on sizes have unit tests; large pictures only take time here.
  const bool large = size >= 24 && (big_endian(data + 16) > 256 || big_endian(data + 20) > 256);
  if (large) return 0;
  read(std::span(data, size));
  read(with_checksums(std::span(data, size)));
  return 0;
}
