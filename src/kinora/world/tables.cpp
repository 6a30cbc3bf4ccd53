#include "kinora/world/tables.h"

#include "kinora/base/error.h"

namespace kinora::world {
namespace {

template <typename Row>
const Row& find(std::span<const Row> rows, std::string_view kind, std::string_view name) {
  for (const Row& row : rows) {
    if (row.name == name) return row;
  }
  std::string known;
  for (const Row& row : rows) known += (known.empty() ? "" : ", ") + row.name;
  throw UsageError(concat("the world has no ", kind, " \"", name, "\""), concat("Known: ", known, "."));
}

}  // namespace

const ShapeRow& shape_row(std::string_view name) { return find(shape_rows(), "shape", name); }
const ColourRow& colour_row(std::string_view name) { return find(colour_rows(), "colour", name); }
const MotionRow& motion_row(std::string_view name) { return find(motion_rows(), "motion", name); }
const BackgroundRow& background_row(std::string_view name) { return find(background_rows(), "background", name); }

std::vector<std::string> size_words(const std::string& name) {
  if (name.empty()) return {};
  for (const SizeRow& row : size_rows()) {
    if (row.name == name) return row.words;
  }
  return {name};
}

}  // namespace kinora::world
