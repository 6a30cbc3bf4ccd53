#include "kinora/video/weight_budget.h"

#include <algorithm>
#include <charconv>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/base/utf8.h"
#include "kinora/offload/blocks.h"

namespace kinora::video {
namespace {

constexpr std::string_view kStream = "stream:";

uint64_t bytes_with(const Params& params, size_t element_bytes, int resident_blocks) {
  const int blocks = offload::find_blocks(params).size();
  return offload::stream_with(params, element_bytes, std::min(resident_blocks, blocks)).bytes();
}

}  // namespace

Offload parse_offload(const std::string& text) {
  if (text == "none") return {.streams = false};
  if (text == "auto") return {.streams = true};
  if (text.starts_with(kStream)) {
    const char *begin = text.data() + kStream.size(), *end = text.data() + text.size();
    int blocks = 0;
    const auto [stop, error] = std::from_chars(begin, end, blocks);
    if (begin != end && stop == end && error == std::errc() && blocks >= 0) {
      return {.streams = true, .resident_blocks = blocks};
    }
  }
  throw UsageError(concat("the offload \"", printable(text), "\" is not known"),
                   "choose auto, none, or stream:N with N blocks that stay in memory");
}

std::optional<offload::ByteFormat> parse_quantize(const std::string& text) {
  if (text == "none") return std::nullopt;
  return ops::byte_format_of(text);
}

std::optional<StreamedSizes> streamed_sizes(const Offload& offload, const Params& text_encoder,
                                            const Params& transformer, size_t element_bytes) {
  if (!offload.streams) return std::nullopt;
  const int n = offload.resident_blocks.value_or(0), blocks = offload::find_blocks(transformer).size();
  if (n > blocks) throw UsageError(concat(n, " blocks in memory"), concat("the transformer has ", blocks));
  return StreamedSizes{.text_bytes = bytes_with(text_encoder, element_bytes, n),
                       .transformer_bytes = bytes_with(transformer, element_bytes, n),
                       .is_asked = offload.resident_blocks.has_value()};
}

std::string text_of(const WeightBudgets& weights, const ModelSizes& sizes) {
  const auto part = [](const std::optional<uint64_t>& stays, uint64_t all) {
    return concat(human_bytes(std::min(stays.value_or(all), all)), " of ", human_bytes(all));
  };
  return concat("weights streamed from their files: ", part(weights.transformer, sizes.transformer_bytes),
                " of the transformer stay in memory, ", part(weights.text_encoder, sizes.text_bytes),
                " of the text encoder");
}

}  // namespace kinora::video
