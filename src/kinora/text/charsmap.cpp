#include "kinora/text/charsmap.h"

#include "kinora/base/error.h"
#include "kinora/text/unicode.h"

namespace kinora::text {
namespace {

// One unit of the double array is either inner (label, offset of its children, has a value) or a value (bit 31).
constexpr uint32_t kValueBit = 1U << 31;
uint32_t label(uint32_t unit) { return unit & (kValueBit | 0xFFU); }
bool has_value(uint32_t unit) { return ((unit >> 8) & 1U) != 0; }
uint32_t child_offset(uint32_t unit) { return (unit >> 10) << ((unit & (1U << 9)) >> 6); }

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  return value;
}

}  // namespace

CharsMap::CharsMap(std::string_view blob, std::string_view where) {
  if (blob.empty()) return;
  const auto refuse = [&](const std::string& why) {
    throw DataError(concat(where, ": the character map is damaged: ", why), "fetch the tokenizer again.");
  };
  if (blob.size() < 8) refuse(concat("it has only ", blob.size(), " bytes"));
  const size_t trie_bytes = little_endian(blob, 0);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > blob.size() - 4) {
    refuse(concat("a trie of ", trie_bytes, " bytes in ", blob.size()));
  }
  units_.reserve(trie_bytes / 4);
  for (size_t at = 4; at < 4 + trie_bytes; at += 4) units_.push_back(little_endian(blob, at));
  replacements_ = blob.substr(4 + trie_bytes);
  // Value units are recognised by their bit wherever they lie, so one pass holds every offset to the block.
  for (const uint32_t unit : units_) {
    if ((unit & kValueBit) != 0 && (unit & ~kValueBit) >= replacements_.size()) {
      refuse(concat("offset ", unit & ~kValueBit, " of ", replacements_.size()));
    }
  }
  if (replacements_.empty() || replacements_.back() != '\0') refuse("the last replacement does not end");
  if (!is_utf8(replacements_)) refuse("its replacements are not UTF-8");
}

template <typename Visit>
void CharsMap::walk(std::string_view text, Visit visit) const {
  if (units_.empty()) return;
  size_t node = child_offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0) return;
    node ^= byte;
    if (node >= units_.size() || label(units_[node]) != byte) return;
    const uint32_t unit = units_[node];
    node ^= child_offset(unit);
    if (!has_value(unit) || node >= units_.size()) continue;
    const uint32_t value = units_[node] & ~kValueBit;
    if (value < replacements_.size() && visit(Rule{i + 1, replacement_at(value)})) return;
  }
}

std::string_view CharsMap::replacement_at(uint32_t offset) const {
  return std::string_view(replacements_.c_str() + offset);
}

std::optional<CharsMap::Rule> CharsMap::longest(std::string_view text) const {
  std::optional<Rule> found;
  walk(text, [&](Rule rule) {
    found = rule;
    return false;
  });
  return found;
}

std::optional<CharsMap::Rule> CharsMap::shortest(std::string_view text) const {
  std::optional<Rule> found;
  walk(text, [&](Rule rule) {
    found = rule;
    return true;
  });
  return found;
}

std::string CharsMap::rewrite(std::string_view text) const {
  // Clusters of six bytes and more are never looked up whole; a rule that matches only the start of a cluster replaces
  // all of it. Both are quirks of the reference that published ids depend on.
  constexpr size_t kWholeClusterBytes = 6;
  std::string out;
  out.reserve(text.size());
  size_t begin = 0;
  for (const size_t end : grapheme_ends(text)) {
    const std::string_view cluster = text.substr(begin, end - begin);
    begin = end;
    if (cluster.size() < kWholeClusterBytes) {
      if (const auto rule = shortest(cluster)) {
        out += rule->replacement;
        continue;
      }
    }
    for (size_t at = 0; at < cluster.size();) {
      const std::string_view one = cluster.substr(at, utf8_length(cluster[at]));
      const auto rule = shortest(one);
      out += rule ? rule->replacement : one;
      at += one.size();
    }
  }
  return out;
}

}  // namespace kinora::text
