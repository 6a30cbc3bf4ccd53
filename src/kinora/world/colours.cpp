// The colours and the words for sizes. Colours lie apart by hue, and from every background, for the judge as for the
// eye.
#include "kinora/world/tables.h"

namespace kinora::world {

std::span<const ColourRow> colour_rows() {
  static const std::vector<ColourRow> rows = {
      {"red", {"red", "red", "red", "bright red", "crimson", "scarlet"}, {224, 44, 40}},
      {"orange", {"orange", "orange", "orange", "bright orange", "tangerine"}, {250, 132, 20}},
      {"yellow", {"yellow", "yellow", "yellow", "bright yellow", "golden"}, {246, 218, 36}},
      {"green", {"green", "green", "green", "bright green", "emerald"}, {40, 212, 92}},
      {"cyan", {"cyan", "cyan", "cyan", "bright cyan", "turquoise"}, {44, 220, 236}},
      {"blue", {"blue", "blue", "blue", "bright blue", "azure"}, {36, 84, 236}},
      {"purple", {"purple", "purple", "purple", "bright purple", "violet"}, {168, 58, 226}},
      {"pink", {"pink", "pink", "pink", "bright pink", "rosy"}, {252, 142, 196}},
  };
  return rows;
}

std::span<const SizeRow> size_rows() {
  static const std::vector<SizeRow> rows = {
      {"small", {"small", "small", "little", "tiny"}},
      {"large", {"large", "large", "big", "huge"}},
  };
  return rows;
}

}  // namespace kinora::world
