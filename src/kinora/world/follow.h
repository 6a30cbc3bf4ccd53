// The judge's eye on moving things: which of a frame's spots are the objects, followed through the clip.
#pragma once

#include <vector>

#include "kinora/world/spot.h"

namespace kinora::world {

using Spots = std::vector<Spot>;  ///< of one object, one a frame; empty where it was not seen

struct Sighting {
  std::vector<Spots> objects;  ///< one, or two where the world has pairs and most frames show two things of their size
  double single = 0.0;         ///< share of the frames with objects that show no further thing of notable size
};

Sighting follow(const WorldConfig& config, const media::Frames& clip, const Backdrop& backdrop);

}  // namespace kinora::world
