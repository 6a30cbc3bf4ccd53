#include "kinora/media/metadata.h"

#include "kinora/base/error.h"
#include "kinora/base/json.h"
#include "kinora/base/utf8.h"
#include "kinora/media/limits.h"

namespace kinora::media {
namespace {

/// ASCII only: every container and every tool carries it unharmed.
std::string dump_ascii(const Json& value) { return value.dump(-1, ' ', true, Json::error_handler_t::replace); }

/// 0 for what cannot be a size: readers calculate with it, and a foreign comment may say anything.
int64_t size_or_zero(const Json& object, const char* key) {
  const auto at = object.find(key);
  const bool is_size = at != object.end() && at->is_number_unsigned() && at->get<uint64_t>() <= 65536;
  return is_size ? at->get<int64_t>() : 0;
}

double number_or_zero(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_number() ? at->get<double>() : 0.0;
}

std::string text_or_empty(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

}  // namespace

std::string to_json(const Metadata& metadata) {
  Json settings;
  try {
    settings = parse_json(metadata.settings, {.max_bytes = kMaxMetadataBytes}, "metadata settings");
  } catch (const DataError& error) {
    throw UsageError(error.what());
  }
  if (!settings.is_object()) throw UsageError("metadata: settings is no JSON object");
  Json value = {{"software", "kinora"}, {"prompt", metadata.prompt}, {"model", metadata.model}};
  value["settings"] = std::move(settings);
  if (metadata.seed) value["seed"] = *metadata.seed;
  value["clip"] = {
      {"frames", metadata.frames}, {"height", metadata.height}, {"width", metadata.width}, {"fps", metadata.fps}};
  return dump_ascii(value);
}

Metadata metadata_from_json(std::string_view text) {
  Metadata metadata;
  Json value;
  try {
    value = parse_json(text, {.max_bytes = kMaxMetadataBytes}, "metadata");
  } catch (const DataError&) {
    return metadata;
  }
  if (!value.is_object()) return metadata;
  metadata.prompt = text_or_empty(value, "prompt");
  metadata.model = text_or_empty(value, "model");
  if (const auto at = value.find("seed"); at != value.end() && at->is_number_unsigned())
    metadata.seed = at->get<uint64_t>();
  if (const auto at = value.find("settings"); at != value.end() && at->is_object()) metadata.settings = dump_ascii(*at);
  if (const auto at = value.find("clip"); at != value.end() && at->is_object()) {
    metadata.frames = size_or_zero(*at, "frames");
    metadata.height = size_or_zero(*at, "height");
    metadata.width = size_or_zero(*at, "width");
    metadata.fps = number_or_zero(*at, "fps");
  }
  return metadata;
}

std::string clean_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    append_utf8(out, (c < 0x20 && c != U'\n' && c != U'\t') || c == 0x7f ? U' ' : c);
  }
  return out;
}

}  // namespace kinora::media
