#include "kinora/train/summed.h"

#include <map>
#include <span>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"

namespace kinora::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSum = "sum";

uint32_t add(std::string_view text, uint32_t sum) { return crc32(std::as_bytes(std::span(text)), sum); }

std::string whole_sum(const NamedTensors& tensors, const Metadata& notes) {
  uint32_t sum = sum_of(tensors);
  for (const auto& [name, tensor] : std::map<std::string, at::Tensor>(tensors.begin(), tensors.end()))
    sum = add(concat(c10::toString(tensor.scalar_type()), tensor.sizes()), sum);
  for (const auto& [key, value] : notes) sum = add(value, add(key, sum));
  return std::to_string(sum);
}

}  // namespace

uint32_t sum_of(const NamedTensors& tensors) {
  uint32_t sum = 0;
  for (const auto& [name, tensor] : std::map<std::string, at::Tensor>(tensors.begin(), tensors.end())) {
    const at::Tensor flat = tensor.detach().cpu().contiguous();
    sum = add(name, sum);
    sum = crc32({static_cast<const std::byte*>(flat.const_data_ptr()), flat.nbytes()}, sum);
  }
  return sum;
}

void save_summed(const fs::path& file, const NamedTensors& tensors, const Metadata& notes) {
  Metadata with_sum = notes;
  with_sum[kSum] = whole_sum(tensors, notes);
  save_tensors(file, tensors, with_sum);
}

std::optional<Summed> read_summed(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return std::nullopt;
  try {
    Summed out;
    const Checkpoint found(file);
    out.notes = found.files().front()->metadata();
    for (const auto& [name, tensor] : found.tensors()) out.tensors.emplace_back(name, load_tensor(tensor));
    const auto sum = out.notes.extract(kSum);
    if (sum.empty() || sum.mapped() == whole_sum(out.tensors, out.notes)) return out;
    log_warn(concat(file.string(), " is damaged (its sum differs); it is made again"));
  } catch (const DataError& error) {
    log_warn(concat(error.what(), "; it is made again"));
  }
  return std::nullopt;
}

}  // namespace kinora::train
