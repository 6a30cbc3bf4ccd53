#include "kinora/base/json.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/utf8.h"

namespace kinora {
namespace {

// Two bytes of text make a value of some 70 in memory. No file that is meant has less than 16 bytes a value where it comes
// near its cap: a million pieces of [text, score] have more.
constexpr size_t kBytesPerValue = 16, kFewValues = size_t{1} << 16;

// Builds the tree from the parser's events. The parser's own tree builder keeps the last of two equal keys and knows no
// depth limit, so both are counted here, before a node is made.
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  TreeBuilder(const JsonLimits& limits, std::string_view what)
      : limits_(limits), what_(what), max_values_(std::max(kFewValues, limits.max_bytes / kBytesPerValue)) {}
  Json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto [place, is_new] = stack_.back()->get_ref<Json::object_t&>().emplace(name, nullptr);
    if (!is_new) throw DataError(concat(what_, ": key \"", printable(name), "\" occurs twice in one object"));
    member_ = &place->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    // nlohmann's text is "[json.exception.parse_error.101] parse error at line 1, column 2: the cause".
    std::string cause = error.what();
    if (const size_t bracket = cause.find("] "); bracket != std::string::npos) cause.erase(0, bracket + 2);
    throw DataError(concat(what_, ": not valid JSON at byte ", position, ": ", printable(cause, 160)));
  }

 private:
  Json* place(Json value) {
    if (++num_values_ > max_values_) throw DataError(concat(what_, ": more than ", max_values_, " values"));
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      auto& items = parent.get_ref<Json::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    *member_ = std::move(value);
    return member_;
  }
  template <typename T>
  bool put(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }
  bool open(Json container) {
    if (static_cast<int>(stack_.size()) >= limits_.max_depth) {
      throw DataError(concat(what_, ": nested deeper than ", limits_.max_depth, " levels"));
    }
    stack_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  JsonLimits limits_;
  std::string what_;
  Json root_;
  // Open containers. A parent's vector may grow only while none of its children is open, so the pointers hold.
  std::vector<Json*> stack_;
  Json* member_ = nullptr;
  size_t num_values_ = 0, max_values_;
};

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + printable(name);
  return out;
}

}  // namespace

Json parse_json(std::string_view text, const JsonLimits& limits, std::string_view what) {
  if (text.size() > limits.max_bytes) {
    throw DataError(concat(what, ": ", text.size(), " bytes of JSON, at most ", limits.max_bytes, " are accepted"));
  }
  if (const auto bad = find_invalid_utf8(text)) throw DataError(concat(what, ": not valid UTF-8 at byte ", *bad));
  // The parser takes a zero byte for the end of its input, which would hide whatever follows.
  if (const void* zero = text.empty() ? nullptr : std::memchr(text.data(), 0, text.size())) {
    const auto position = static_cast<const char*>(zero) - text.data();
    throw DataError(concat(what, ": not valid JSON at byte ", position, ": a zero byte"));
  }
  TreeBuilder builder(limits, what);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) throw DataError(concat(what, ": not valid JSON"));
  return builder.take();
}

Json read_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(read_file(path, limits.max_bytes), limits, concat("'", path.string(), "'"));
}

JsonObject::JsonObject(const Json& value, std::string what) : object_(&value), what_(std::move(what)) {
  if (!value.is_object()) throw DataError(concat(what_, ": expected an object, found ", value.type_name()));
}

const Json* JsonObject::find(std::string_view key) const {
  known_.emplace_back(key);
  const auto member = object_->find(key);
  return member == object_->end() || member->is_null() ? nullptr : &*member;
}

bool JsonObject::has(std::string_view key) const { return find(key) != nullptr; }

const Json& JsonObject::require(std::string_view key) const {
  const Json* member = find(key);
  if (member == nullptr) throw DataError(concat(what_, ": \"", key, "\" is missing"));
  return *member;
}

void JsonObject::fail(std::string_view key, std::string_view wanted, const Json& found) const {
  std::string shown = found.is_structured() ? std::string(found.type_name()) : printable(found.dump(), 60);
  throw DataError(concat(what_, ": \"", key, "\" must be ", wanted, ", found ", shown));
}

int64_t JsonObject::to_int(std::string_view key, const Json& value, int64_t low, int64_t high) const {
  const auto wanted = [&] {
    return low == kMin && high == kMax ? std::string("an integer") : concat("an integer from ", low, " to ", high);
  };
  if (!value.is_number_integer()) fail(key, wanted(), value);
  // Unsigned values above 2^63 - 1 would turn negative in a plain conversion.
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(kMax)) fail(key, wanted(), value);
  const int64_t number = value.get<int64_t>();
  if (number < low || number > high) fail(key, wanted(), value);
  return number;
}

double JsonObject::to_number(std::string_view key, const Json& value) const {
  if (!value.is_number()) fail(key, "a number", value);
  return value.get<double>();
}

const Json& JsonObject::to_array(std::string_view key, const Json& value) const {
  if (!value.is_array()) fail(key, "a list", value);
  return value;
}

int64_t JsonObject::require_int(std::string_view key, int64_t low, int64_t high) const {
  return to_int(key, require(key), low, high);
}
int64_t JsonObject::int_or(std::string_view key, int64_t fallback, int64_t low, int64_t high) const {
  const Json* member = find(key);
  return member ? to_int(key, *member, low, high) : fallback;
}

double JsonObject::require_number(std::string_view key) const { return to_number(key, require(key)); }
double JsonObject::number_or(std::string_view key, double fallback) const {
  const Json* member = find(key);
  return member ? to_number(key, *member) : fallback;
}

bool JsonObject::require_bool(std::string_view key) const {
  const Json& member = require(key);
  if (!member.is_boolean()) fail(key, "true or false", member);
  return member.get<bool>();
}
bool JsonObject::bool_or(std::string_view key, bool fallback) const { return has(key) ? require_bool(key) : fallback; }

std::string JsonObject::require_string(std::string_view key) const {
  const Json& member = require(key);
  if (!member.is_string()) fail(key, "a string", member);
  return member.get<std::string>();
}
std::string JsonObject::string_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? require_string(key) : std::string(fallback);
}

std::vector<int64_t> JsonObject::require_ints(std::string_view key, int64_t low, int64_t high) const {
  std::vector<int64_t> out;
  for (const Json& item : to_array(key, require(key))) out.push_back(to_int(key, item, low, high));
  return out;
}
std::vector<int64_t> JsonObject::ints_or(std::string_view key, std::vector<int64_t> fallback, int64_t low,
                                         int64_t high) const {
  return has(key) ? require_ints(key, low, high) : std::move(fallback);
}

std::vector<double> JsonObject::require_numbers(std::string_view key) const {
  std::vector<double> out;
  for (const Json& item : to_array(key, require(key))) out.push_back(to_number(key, item));
  return out;
}
std::vector<double> JsonObject::numbers_or(std::string_view key, std::vector<double> fallback) const {
  return has(key) ? require_numbers(key) : std::move(fallback);
}

std::vector<std::string> JsonObject::require_strings(std::string_view key) const {
  std::vector<std::string> out;
  for (const Json& item : to_array(key, require(key))) {
    if (!item.is_string()) fail(key, "a list of strings", item);
    out.push_back(item.get<std::string>());
  }
  return out;
}
std::vector<std::string> JsonObject::strings_or(std::string_view key, std::vector<std::string> fallback) const {
  return has(key) ? require_strings(key) : std::move(fallback);
}

JsonObject JsonObject::require_object(std::string_view key) const {
  return JsonObject(require(key), concat(what_, ": \"", key, "\""));
}
const Json& JsonObject::require_array(std::string_view key) const { return to_array(key, require(key)); }

void JsonObject::ignore(std::initializer_list<std::string_view> keys) const {
  known_.insert(known_.end(), keys.begin(), keys.end());
}

std::vector<std::string> JsonObject::unknown_keys() const {
  std::vector<std::string> out;
  for (const auto& item : object_->items()) {
    const bool is_known = std::find(known_.begin(), known_.end(), item.key()) != known_.end();
    if (!is_known && !item.key().starts_with('_')) out.push_back(item.key());
  }
  return out;
}

void JsonObject::warn_unknown() const {
  const auto unknown = unknown_keys();
  if (!unknown.empty()) log_warn(concat(what_, ": not used: ", join(unknown)));
}

void JsonObject::refuse_unknown() const {
  const auto unknown = unknown_keys();
  if (!unknown.empty()) throw DataError(concat(what_, ": unknown: ", join(unknown)));
}

}  // namespace kinora
