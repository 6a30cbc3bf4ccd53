#include "kinora/tensor/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

namespace kinora {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr int64_t kMaxDim = int64_t{1} << 48;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxTensors = 100'000;
constexpr size_t kMaxNameBytes = 512;
constexpr size_t kMaxMetadataBytes = size_t{1} << 20;
constexpr const char* kFetchAgain = "the file is damaged or was cut short; fetch it again";

// "" when a tensor's name is acceptable, otherwise what is wrong with it.
std::string name_fault(std::string_view name) {
  if (name.size() > kMaxNameBytes) return concat("is longer than ", kMaxNameBytes, " bytes");
  for (const char c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return "has control characters";
  }
  return "";
}

// Reads the header event by event: a tree would take ten times the header's memory before the first check, keep the
// last of two equal keys, and turn 2.0 into 2.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  HeaderReader(std::string_view what, SafetensorsHeader& out) : what_(what), out_(out) {}

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("true or false"); }
  bool number_float(double, const std::string& text) override { unexpected(concat("the number ", text)); }
  bool binary(json::binary_t&) override { unexpected("binary data"); }
  bool number_integer(int64_t value) override { unexpected(concat("the number ", value)); }  // negative ones only

  bool number_unsigned(uint64_t value) override {
    if (place_ == Place::shape) {
      if (entry_.shape.size() >= kMaxRank) fail(concat("has more than ", kMaxRank, " dimensions"));
      if (value > static_cast<uint64_t>(kMaxDim))
        fail(concat("has a dimension of ", value, ", at most 2^48 is accepted"));
      entry_.shape.push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::offsets) {
      if (num_offsets_ >= 2) fail("has more than two data_offsets");
      (num_offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    } else {
      unexpected(concat("the number ", value));
    }
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::metadata) {
      metadata_bytes_ += value.size();
      if (metadata_bytes_ > kMaxMetadataBytes) refuse("__metadata__ is larger than 1 MiB");
      if (!out_.metadata.emplace(std::move(key_), std::move(value)).second)
        refuse("a key occurs twice in __metadata__");
      return true;
    }
    if (place_ != Place::entry || key_ != "dtype") unexpected("a string");
    const auto dtype = find_dtype(value);
    if (!dtype) {
      throw DataError(
          concat(what_, ": tensor \"", entry_.name, "\" has the unknown dtype '", printable(value, 40), "'"),
          "F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL F8_E4M3 and F8_E5M2 are read");
    }
    entry_.dtype = *dtype;
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::top;
    } else if (place_ == Place::top && key_ == "__metadata__") {
      place_ = Place::metadata;
    } else if (place_ == Place::top) {
      if (out_.tensors.size() >= kMaxTensors) refuse(concat("more than ", kMaxTensors, " tensors"));
      entry_ = {};
      entry_.name = key_;
      num_offsets_ = 0;
      has_dtype_ = has_shape_ = has_offsets_ = false;
      place_ = Place::entry;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::entry) {
      for (const auto& [is_there, field] :
           {std::pair{has_dtype_, "dtype"}, std::pair{has_shape_, "shape"}, std::pair{has_offsets_, "data_offsets"}}) {
        if (!is_there) fail(concat("has no ", field));
      }
      if (num_offsets_ != 2) fail(concat("has ", num_offsets_, " data_offsets instead of two"));
      out_.tensors.push_back(std::move(entry_));
      place_ = Place::top;
    } else if (place_ == Place::metadata) {
      place_ = Place::top;
    } else {
      place_ = Place::outside;
    }
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::entry && key_ == "shape") {
      place_ = Place::shape;
    } else if (place_ == Place::entry && key_ == "data_offsets") {
      place_ = Place::offsets;
    } else {
      unexpected("a list");
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::entry;
    return true;
  }

  bool key(std::string& name) override {
    if (place_ == Place::top) {
      if (const std::string fault = name_fault(name); !fault.empty()) {
        refuse(concat("tensor name \"", printable(name, 60), "\" ", fault));
      }
      if (!names_.insert(name).second) refuse(concat("\"", name, "\" occurs twice"));
    } else if (place_ == Place::entry) {
      bool* const seen = name == "dtype"          ? &has_dtype_
                         : name == "shape"        ? &has_shape_
                         : name == "data_offsets" ? &has_offsets_
                                                  : nullptr;
      if (seen == nullptr) fail(concat("has the unknown field \"", printable(name, 40), "\""));
      if (std::exchange(*seen, true)) fail(concat("has ", name, " twice"));
    } else {
      metadata_bytes_ += name.size();
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    refuse(concat("the header is not valid JSON at byte ", position));
  }

 private:
  enum class Place { outside, top, metadata, entry, shape, offsets };

  [[noreturn]] void refuse(const std::string& fault) const { throw DataError(concat(what_, ": ", fault), kFetchAgain); }
  [[noreturn]] void fail(const std::string& fault) const { refuse(concat("tensor \"", entry_.name, "\" ", fault)); }
  [[noreturn]] void unexpected(const std::string& found) const {
    switch (place_) {
      case Place::outside: refuse(concat("the header is ", found, " instead of an object"));
      case Place::top: refuse(concat("\"", key_, "\" is ", found, " instead of an object"));
      case Place::metadata: refuse(concat("__metadata__ \"", printable(key_), "\" is ", found, " instead of a string"));
      case Place::entry: fail(concat("has ", found, " as its ", key_));
      case Place::shape: fail(concat("has ", found, " in its shape"));
      default: fail(concat("has ", found, " in its data_offsets"));
    }
  }

  std::string what_;
  SafetensorsHeader& out_;
  Place place_ = Place::outside;
  std::string key_;
  TensorEntry entry_;
  size_t num_offsets_ = 0;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  size_t metadata_bytes_ = 0;
  std::set<std::string> names_;
};

// Shape against offsets, and all offsets against the data part: first 0, no gap, no overlap, last at the end.
void check_layout(std::vector<TensorEntry>& tensors, uint64_t data_bytes, std::string_view what) {
  for (const TensorEntry& entry : tensors) {
    const auto fail = [&](const auto&... fault) {
      throw DataError(concat(what, ": tensor \"", entry.name, "\" ", fault...), kFetchAgain);
    };
    const std::string as = concat("of shape ", shape_text(entry.shape), " as ", dtype_name(entry.dtype), " ");
    uint64_t need = 0;
    if (!tensor_num_bytes(entry.shape, entry.dtype, need)) fail(as, "is larger than any file");
    const std::string offsets = concat("data_offsets [", entry.begin, ", ", entry.end, "]");
    if (entry.begin > entry.end) fail("has ", offsets, " that end before they begin");
    if (entry.num_bytes() != need) fail(as, "needs ", need, " bytes but ", offsets, " give ", entry.num_bytes());
    if (entry.end > data_bytes) fail("has ", offsets, " but the file holds ", data_bytes, " bytes of data");
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t at = 0;
  for (const TensorEntry& entry : tensors) {
    if (entry.begin != at) {
      throw DataError(concat(what, ": tensor \"", entry.name, "\" begins at byte ", entry.begin,
                             " of the data, expected ", at, entry.begin < at ? " (tensors overlap)" : " (a gap)"),
                      kFetchAgain);
    }
    at = entry.end;
  }
  if (at != data_bytes) {
    throw DataError(concat(what, ": ", data_bytes, " bytes of data, but the tensors fill ", at), kFetchAgain);
  }
}

}  // namespace

bool tensor_num_bytes(std::span<const int64_t> shape, DType dtype, uint64_t& bytes) {
  int64_t product = static_cast<int64_t>(dtype_bytes(dtype));
  // A zero anywhere makes the tensor empty, but sizes that overflow before it are refused all the same.
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(product, size, &product)) return false;
  }
  bytes = static_cast<uint64_t>(product);
  return true;
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string out = "[";
  for (const int64_t size : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(size);
  return out + "]";
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> head, uint64_t file_bytes,
                                           std::string_view what) {
  const auto refuse = [&](const auto&... fault) { throw DataError(concat(what, ": ", fault...), kFetchAgain); };
  if (file_bytes < kLengthBytes || head.size() < kLengthBytes) {
    refuse("not a safetensors file: ", file_bytes, " bytes, at least 8 are needed");
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= std::to_integer<uint64_t>(head[i]) << (8 * i);
  if (length < 2 || length > kMaxHeaderBytes) {
    refuse("not a safetensors file: a header of ", length, " bytes, 2 to ", kMaxHeaderBytes, " are accepted");
  }
  if (length > file_bytes - kLengthBytes || length > head.size() - kLengthBytes) {
    refuse("a header of ", length, " bytes in a file of ", file_bytes);
  }
  std::string_view text(reinterpret_cast<const char*>(head.data()) + kLengthBytes, length);
  if (text.front() != '{') refuse("not a safetensors file: the header does not begin with '{'");
  // The padding is spaces; line ends, zero bytes and the like are refused here or by the parser.
  const size_t last = text.find_last_not_of(' ');
  if (text[last] != '}') refuse("the header has bytes behind its JSON");
  text = text.substr(0, last + 1);
  // The parser would take a zero byte for the end of its input.
  if (text.find('\0') != std::string_view::npos) refuse("the header has a zero byte");
  if (const auto bad = find_invalid_utf8(text)) refuse("the header is not valid UTF-8 at byte ", *bad);

  SafetensorsHeader header;
  header.data_begin = kLengthBytes + length;
  HeaderReader reader(what, header);
  if (!json::sax_parse(text.begin(), text.end(), &reader)) refuse("the header is not valid JSON");
  check_layout(header.tensors, file_bytes - header.data_begin, what);
  return header;
}

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
      return json(text).dump();
    } catch (const json::exception&) {
      throw UsageError(concat("safetensors: \"", printable(text), "\" is not valid UTF-8"));
    }
  };
  std::string text = "{";
  const auto separate = [&] { text += text.size() > 1 ? "," : ""; };
  size_t metadata_bytes = 0;
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
