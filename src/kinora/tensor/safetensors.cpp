#include "kinora/tensor/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "kinora/base/error.h"
#include "kinora/base/space.h"
#include "kinora/base/utf8.h"
#include "kinora/tensor/safetensors_rules.h"

namespace kinora {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr double kSpareSpace = 1.1;  // of a file that is written: other programs write, too

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : map_(path) {
  header_ = parse_safetensors_header(map_.bytes(), map_.bytes().size(), concat("'", path.string(), "'"));
  for (const TensorEntry& entry : header_.tensors) by_name_.emplace(entry.name, &entry);
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorEntry& entry) const {
  KINORA_ASSERT(find(entry.name) == &entry);
  return map_.bytes().subspan(header_.data_begin + entry.begin, entry.num_bytes());
}

void SafetensorsFile::check_unchanged() const {
  if (map_.changed()) {
    throw DataError(concat("'", path().string(), "' was changed while it was read"),
                    "load it again when it is complete");
  }
}

namespace {

std::string make_header(std::span<const SafetensorsWriter::Spec> tensors, const Metadata& metadata,
                        uint64_t& data_bytes) {
  const auto refuse = [](const auto&... fault) { throw UsageError(concat("safetensors: ", fault...)); };
  if (tensors.size() > kMaxTensors) refuse(tensors.size(), " tensors, at most ", kMaxTensors, " fit in a file");
  const auto quoted = [](const std::string& text) {
    try {
      return nlohmann::json(text).dump();
    } catch (const nlohmann::json::exception&) {
      throw UsageError(concat("safetensors: \"", printable(text), "\" is not valid UTF-8"));
    }
  };
  std::string text = "{";
  const auto separate = [&] { text += text.size() > 1 ? "," : ""; };
  size_t metadata_bytes = 0;
  if (metadata.size() > kMaxMetadataEntries) refuse(metadata.size(), " entries of metadata are too many");
  if (!metadata.empty()) {
    std::string inner;
    for (const auto& [key, value] : metadata) {
      inner += (inner.empty() ? "" : ",") + quoted(key) + ":" + quoted(value);
      metadata_bytes += key.size() + value.size();
    }
    if (metadata_bytes > kMaxMetadataBytes) refuse("more than 1 MiB of metadata");
    text += "\"__metadata__\":{" + inner + "}";
  }
  std::set<std::string_view> names;
  uint64_t at = 0;
  for (const auto& tensor : tensors) {
    if (const std::string fault = name_fault(tensor.name); !fault.empty()) {
      refuse("tensor name \"", printable(tensor.name), "\" ", fault);
    }
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second)
      refuse("\"", tensor.name, "\" occurs twice");
    uint64_t bytes = 0;
    const bool is_sized = tensor_num_bytes(tensor.shape, tensor.dtype, bytes);
    if (!is_sized || tensor.shape.size() > kMaxRank || __builtin_add_overflow(at, bytes, &data_bytes)) {
      refuse("\"", tensor.name, "\" cannot have the shape ", shape_text(tensor.shape));
    }
    separate();
    std::string shape = shape_text(tensor.shape);
    shape.erase(std::remove(shape.begin(), shape.end(), ' '), shape.end());
    text += concat(quoted(tensor.name), ":{\"dtype\":\"", dtype_name(tensor.dtype), "\",\"shape\":", shape,
                   ",\"data_offsets\":[", at, ",", data_bytes, "]}");
    at = data_bytes;
  }
  data_bytes = at;
  text += "}";
  // The data part then begins at a multiple of 8, so the largest element type can be used in place.
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kMaxHeaderBytes) refuse("a header of ", text.size(), " bytes is too large");
  if (!has_short_tokens(text)) refuse("metadata of more than 2 MiB when its quotes are escaped");
  return text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::span<const Spec> tensors,
                                     const Metadata& metadata)
    : file_(path) {
  uint64_t data_bytes = 0;
  const std::string header = make_header(tensors, metadata, data_bytes);
  std::string length(kLengthBytes, '\0');
  for (size_t i = 0; i < kLengthBytes; ++i) length[i] = static_cast<char>((header.size() >> (8 * i)) & 0xFF);
  file_bytes_ = kLengthBytes + header.size() + data_bytes;
  const std::filesystem::path folder = file_.temp_path().parent_path();
  check_space(folder, static_cast<uint64_t>(kSpareSpace * static_cast<double>(file_bytes_)));
  file_.write(length);
  file_.write(header);
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  if (bytes.size() > file_bytes_ - file_.num_written()) {
    throw UsageError(concat("safetensors: more data than the tensors of '", file_.target().string(), "' hold"));
  }
  file_.write(bytes);
}

void SafetensorsWriter::commit() {
  if (file_.num_written() != file_bytes_) {
    throw UsageError(concat("safetensors: ", file_bytes_ - file_.num_written(), " bytes of '", file_.target().string(),
                            "' are missing"));
  }
  file_.commit();
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorBytes> tensors,
                       const Metadata& metadata) {
  std::vector<SafetensorsWriter::Spec> specs;
  for (const TensorBytes& tensor : tensors) {
    uint64_t need = 0;
    if (!tensor_num_bytes(tensor.shape, tensor.dtype, need) || need != tensor.bytes.size()) {
      throw UsageError(concat("safetensors: \"", printable(tensor.name), "\" of shape ", shape_text(tensor.shape),
                              " as ", dtype_name(tensor.dtype), " does not have ", tensor.bytes.size(), " bytes"));
    }
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  SafetensorsWriter writer(path, specs, metadata);
  for (const TensorBytes& tensor : tensors) writer.write(tensor.bytes);
  writer.commit();
}

}  // namespace kinora
