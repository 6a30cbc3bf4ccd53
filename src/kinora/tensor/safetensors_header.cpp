#include "kinora/tensor/safetensors.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/tensor/safetensors_rules.h"

namespace kinora {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr size_t kMaxNameBytes = 512;
constexpr size_t kMaxTokenBytes = size_t{2} << 20;
constexpr const char* kFetchAgain = "the file is damaged or was cut short; fetch it again";

using TakeEntry = std::function<void(TensorEntry&& entry)>;

// Reads the header event by event: a tree would take ten times the header's memory before the first check, keep the
// last of two equal keys, and turn 2.0 into 2. What holds for a tensor alone is checked before it is taken.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  HeaderReader(std::string_view what, const TakeEntry& take) : what_(what), take_(take) {}
  Metadata take_metadata() { return std::move(metadata_); }

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
      if (metadata_.size() >= kMaxMetadataEntries) {
        refuse(concat("__metadata__ has more than ", kMaxMetadataEntries, " entries"));
      }
      if (!metadata_.emplace(std::move(key_), std::move(value)).second) refuse("a key occurs twice in __metadata__");
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
      if (std::exchange(has_metadata_, true)) refuse("\"__metadata__\" occurs twice");
      place_ = Place::metadata;
    } else if (place_ == Place::top) {
      if (++num_tensors_ > kMaxTensors) refuse(concat("more than ", kMaxTensors, " tensors"));
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
      check_size();
      take_(std::move(entry_));
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

  // Shape against offsets.
  void check_size() const {
    const auto as = [&] { return concat("of shape ", shape_text(entry_.shape), " as ", dtype_name(entry_.dtype)); };
    const auto offsets = [&] { return concat("data_offsets [", entry_.begin, ", ", entry_.end, "]"); };
    uint64_t need = 0;
    if (!tensor_num_bytes(entry_.shape, entry_.dtype, need)) fail(concat(as(), " is larger than any file"));
    if (entry_.begin > entry_.end) fail(concat("has ", offsets(), " that end before they begin"));
    if (entry_.num_bytes() != need)
      fail(concat(as(), " needs ", need, " bytes but ", offsets(), " give ", entry_.num_bytes()));
  }

  std::string what_;
  const TakeEntry& take_;
  Metadata metadata_;
  size_t num_tensors_ = 0;
  Place place_ = Place::outside;
  std::string key_;
  TensorEntry entry_;
  size_t num_offsets_ = 0;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  bool has_metadata_ = false;
  size_t metadata_bytes_ = 0;
};

Metadata read_entries(std::string_view text, std::string_view what, const TakeEntry& take) {
  HeaderReader reader(what, take);
  if (!json::sax_parse(text.begin(), text.end(), &reader)) {
    throw DataError(concat(what, ": the header is not valid JSON"), kFetchAgain);
  }
  return reader.take_metadata();
}

// What must be known of all tensors to hold them against each other, in a fraction of an entry's memory.
struct Extent {
  uint64_t begin = 0, end = 0;
  size_t name_hash = 0;
  uint32_t index = 0;  // in the order of the header
};

std::vector<Extent> read_extents(std::string_view text, std::string_view what) {
  std::vector<Extent> extents;
  read_entries(text, what, [&](TensorEntry&& entry) {
    extents.push_back(
        {entry.begin, entry.end, std::hash<std::string>()(entry.name), static_cast<uint32_t>(extents.size())});
  });
  return extents;
}

std::string name_at(std::string_view text, std::string_view what, uint32_t index) {
  std::string name;
  uint32_t at = 0;
  read_entries(text, what, [&](TensorEntry&& entry) {
    if (at++ == index) name = std::move(entry.name);
  });
  return name;
}

void check_names(std::vector<Extent>& extents, std::string_view text, std::string_view what) {
  const auto by_hash = [](const Extent& a, const Extent& b) { return a.name_hash < b.name_hash; };
  const auto alike = [](const Extent& a, const Extent& b) { return a.name_hash == b.name_hash; };
  std::sort(extents.begin(), extents.end(), by_hash);
  if (std::adjacent_find(extents.begin(), extents.end(), alike) == extents.end()) return;
  // The same name, or two of one hash: the names themselves decide.
  std::set<std::string> names;
  read_entries(text, what, [&](TensorEntry&& entry) {
    const Extent wanted{.name_hash = std::hash<std::string>()(entry.name)};
    const auto [begin, end] = std::equal_range(extents.begin(), extents.end(), wanted, by_hash);
    if (end - begin > 1 && !names.insert(entry.name).second)
      throw DataError(concat(what, ": \"", entry.name, "\" occurs twice"), kFetchAgain);
  });
}

// All offsets against the data part: first 0, no gap, no overlap, last at the end.
void check_layout(std::vector<Extent>& extents, uint64_t data_bytes, std::string_view text, std::string_view what) {
  const auto refuse = [&](const auto&... fault) { throw DataError(concat(what, ": ", fault...), kFetchAgain); };
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return std::tie(a.begin, a.end, a.index) < std::tie(b.begin, b.end, b.index);
  });
  uint64_t at = 0;
  for (const Extent& extent : extents) {
    const auto tensor = [&] { return concat("tensor \"", name_at(text, what, extent.index), "\" "); };
    if (extent.end > data_bytes) {
      refuse(tensor(), "has data_offsets [", extent.begin, ", ", extent.end, "] but the file holds ", data_bytes,
             " bytes of data");
    }
    if (extent.begin != at) {
      refuse(tensor(), "begins at byte ", extent.begin, " of the data, expected ", at,
             extent.begin < at ? " (tensors overlap)" : " (a gap)");
    }
    at = extent.end;
  }
  if (at != data_bytes) refuse(data_bytes, " bytes of data, but the tensors fill ", at);
}

}  // namespace

std::string name_fault(std::string_view name) {
  if (name.size() > kMaxNameBytes) return concat("is longer than ", kMaxNameBytes, " bytes");
  for (size_t at = 0; at < name.size();) {
    const char32_t c = next_code_point(name, at);
    if (c < 0x20 || (c >= 0x7F && c < 0xA0)) return "has control characters";
  }
  return "";
}

bool has_short_tokens(std::string_view header) {
  size_t begin = 0;
  bool in_string = false;
  for (size_t at = 0; at < header.size(); ++at) {
    if (header[at] == '"') {
      if (at - begin > kMaxTokenBytes) return false;
      in_string = !in_string;
      begin = at;
    } else if (in_string && header[at] == '\\') {
      ++at;
    }
  }
  return header.size() - begin <= kMaxTokenBytes;
}

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
  if (!has_short_tokens(text)) refuse("the header has a string, a number or a gap of more than 2 MiB");

  // Once to check, in little memory, and once to keep.
  std::vector<Extent> extents = read_extents(text, what);
  check_names(extents, text, what);
  check_layout(extents, file_bytes - kLengthBytes - length, text, what);
  SafetensorsHeader header;
  header.data_begin = kLengthBytes + length;
  header.tensors.reserve(extents.size());
  header.metadata = read_entries(text, what, [&](TensorEntry&& entry) { header.tensors.push_back(std::move(entry)); });
  std::sort(header.tensors.begin(), header.tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  return header;
}

}  // namespace kinora
