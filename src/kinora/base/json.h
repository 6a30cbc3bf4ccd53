// JSON from files that somebody else wrote: strict (RFC 8259 and no more), bounded, with errors that name file and key.
// The parser below it is nlohmann/json, whose tree is used as it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace kinora {

using Json = nlohmann::json;

/// The caps by use; a text above its cap is refused before it is parsed.
inline constexpr size_t kJsonConfigBytes = size_t{1} << 20;
inline constexpr size_t kJsonTokenizerBytes = size_t{64} << 20;
inline constexpr size_t kJsonHeaderBytes = 100'000'000;

struct JsonLimits {
  size_t max_bytes = kJsonConfigBytes;
  int max_depth = 64;  // deeper trees overflow the stack when they are copied or printed
};

/// Parses one JSON value. `what` names the text in errors ("config.json", "request").
/// Throws DataError: too large, too deep, more values than one for 16 bytes of the cap (but 65,536 at least), a key twice
/// in one object, NaN or Infinity, a number that overflows, bytes behind the value, comments, invalid UTF-8, a lone
/// surrogate.
Json parse_json(std::string_view text, const JsonLimits& limits, std::string_view what);

/// parse_json of a file; errors name the path. Throws also what read_file throws.
Json read_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});

/// Reads the members of one object with checks and remembers which were asked for. A member that is absent or null
/// takes the fallback of an `x_or`; a `require_x` refuses it. Every mismatch of type or range is a DataError that names
/// `what` and the key. A view: the Json must outlive it.
///
///   JsonObject config(json, "vae/config.json");
///   const int64_t width = config.require_int("hidden_size", 1, 1 << 16);
///   const double eps = config.number_or("eps", 1e-6);
///   config.warn_unknown();
class JsonObject {
 public:
  /// Throws DataError when `value` is not an object.
  JsonObject(const Json& value, std::string what);
  JsonObject(const Json&&, std::string) = delete;

  /// Present and not null.
  bool has(std::string_view key) const;

  /// Integers only: 2.0 is refused, never rounded.
  int64_t require_int(std::string_view key, int64_t low = kMin, int64_t high = kMax) const;
  int64_t int_or(std::string_view key, int64_t fallback, int64_t low = kMin, int64_t high = kMax) const;
  /// Integers or decimals, always finite.
  double require_number(std::string_view key) const;
  double number_or(std::string_view key, double fallback) const;
  bool require_bool(std::string_view key) const;
  bool bool_or(std::string_view key, bool fallback) const;
  std::string require_string(std::string_view key) const;
  std::string string_or(std::string_view key, std::string_view fallback) const;

  std::vector<int64_t> require_ints(std::string_view key, int64_t low = kMin, int64_t high = kMax) const;
  std::vector<int64_t> ints_or(std::string_view key, std::vector<int64_t> fallback, int64_t low = kMin,
                               int64_t high = kMax) const;
  std::vector<double> require_numbers(std::string_view key) const;
  std::vector<double> numbers_or(std::string_view key, std::vector<double> fallback) const;
  std::vector<std::string> require_strings(std::string_view key) const;
  std::vector<std::string> strings_or(std::string_view key, std::vector<std::string> fallback) const;

  JsonObject require_object(std::string_view key) const;
  const Json& require_array(std::string_view key) const;
  /// The member as it is, or nullptr when absent or null.
  const Json* find(std::string_view key) const;

  /// Marks keys as known though their values are of no use here.
  void ignore(std::initializer_list<std::string_view> keys) const;
  /// Keys that nobody asked for so far, in order; keys that begin with '_' (diffusers' own notes) are left out.
  std::vector<std::string> unknown_keys() const;
  /// For files of others: one line of warning that lists the unknown keys, none when there are none.
  void warn_unknown() const;
  /// For our own formats: DataError that lists them.
  void refuse_unknown() const;

  const Json& json() const { return *object_; }
  const std::string& what() const { return what_; }

 private:
  static constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  static constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const Json& require(std::string_view key) const;
  [[noreturn]] void fail(std::string_view key, std::string_view wanted, const Json& found) const;
  int64_t to_int(std::string_view key, const Json& value, int64_t low, int64_t high) const;
  double to_number(std::string_view key, const Json& value) const;
  const Json& to_array(std::string_view key, const Json& value) const;

  const Json* object_;
  std::string what_;
  mutable std::vector<std::string> known_;  // asked for; a config has tens of keys, so a list will do
};

}  // namespace kinora
