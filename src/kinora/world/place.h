// Where objects can be: the room that a path takes, and random places within the picture.
#pragma once

#include <optional>
#include <utility>

#include "kinora/world/random.h"
#include "kinora/world/tables.h"
#include "kinora/world/world.h"

namespace kinora::world {

/// What an object covers along one axis on its whole path, in px relative to its start.
struct Reach {
  double low = 0.0;
  double high = 0.0;
};

struct Box {
  Reach x, y;
};

Box path_box(const WorldConfig& config, const ShapeRow& shape, const MotionRow& motion, double radius_px,
             double speed_px);

/// Fills in what shape, colour, motion and size range leave open.
Object place(const WorldConfig& config, Object object, const SizeRange& size, Random& random);

/// True when the objects keep a gap between them in every frame, however they are turned.
bool are_apart(const WorldConfig& config, const Object& a, const Object& b);

/// Both objects placed apart; nullopt when chance finds no place in a bounded number of tries.
std::optional<std::pair<Object, Object>> place_apart(const WorldConfig& config, const Object& a, const Object& b,
                                                     const SizeRange& size, Random& random);

}  // namespace kinora::world
