// Headers of .safetensors files.
#include <span>

#include "fuzz.h"
#include "kinora/tensor/safetensors.h"

using namespace kinora;

namespace {

void read(std::span<const std::byte> head, uint64_t file_bytes) {
  fuzz::refuse_or([&] {
    const SafetensorsHeader header = parse_safetensors_header(head, file_bytes, "fuzz");
    uint64_t at = 0;
    for (const TensorEntry& t : header.tensors) {
      uint64_t bytes = 0;
      fuzz::promise(t.begin == at && t.end >= t.begin, "tensors follow one another");
      fuzz::promise(tensor_num_bytes(t.shape, t.dtype, bytes) && bytes == t.num_bytes(),
                    "shape and dtype give the size");
      at = t.end;
    }
    fuzz::promise(header.data_begin + at == file_bytes, "the data fill the file");
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto head = std::as_bytes(std::span(data, size));
  // Seeds are headers without data, so that mutations hit what is parsed; the files would have had some more bytes.
  for (const uint64_t more : {0, 24, 1 << 20}) read(head, size + more);
  return 0;
}
