#include "kinora/media/metadata.h"

#include "kinora/base/error.h"
#include "kinora/base/json.h"
#include "kinora/base/utf8.h"
#include "kinora/media/limits.h"

namespace kinora::media {
namespace {

/// ASCII only: every container and every tool carries it unharmed.
std::string dump_ascii(const Json& value) { return value.dump(-1, ' ', true, Json::error_handler_t::replace); }

template <typename T>
T number_or(const Json& object, const char* key, T otherwise) {
  const auto at = object.find(key);
  return at != object.end() && at->is_number() ? at->get<T>() : otherwise;
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
    metadata.frames = number_or<int64_t>(*at, "frames", 0);
    metadata.height = number_or<int64_t>(*at, "height", 0);
    metadata.width = number_or<int64_t>(*at, "width", 0);
    metadata.fps = number_or<double>(*at, "fps", 0);
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
