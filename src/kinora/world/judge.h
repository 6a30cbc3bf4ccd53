// The judge: reads from the pixels alone what a clip of the world shows, and says "none" rather than guess. It is the
// built-in model's measure, so it accepts soft edges and colours that are a little off, but neither blobs nor ghosts.
#pragma once

#include <string>
#include <vector>

#include "kinora/media/frames.h"
#include "kinora/world/world.h"

namespace kinora::world {

// What a clip must reach before its shape counts as read; rendered truth is near 1, 1, .99, .15, 1 and .9. A ball that
// is slightly dented still passes, for a blurred real one looks much the same.
inline constexpr double kLeastPresence = 0.90;
inline constexpr double kLeastSingle = 0.90;
inline constexpr double kLeastIou = 0.85;
inline constexpr double kLeastLead = 0.03;
inline constexpr double kLeastAgreement = 0.70;
inline constexpr double kLeastSharpness = 0.16;

/// What the judge read of one object. An attribute is "none" when it cannot be told or the floors above are missed.
struct Reading {
  std::string shape = "none";
  std::string colour = "none";
  std::string motion = "none";
  std::string size = "none";
  double presence = 0.0;       ///< share of frames with an object of plausible size
  double iou = 0.0;            ///< of mask and best shape, normalised to equal area, mean over frames
  double lead = 0.0;           ///< iou less that of the second best shape
  double agreement = 0.0;      ///< share of frames whose own best shape is the best one
  double sharpness = 0.0;      ///< edge contrast against a fresh render of what was read: 1 as crisp, 0 no such edge
  double worst_step_px = 0.0;  ///< the largest move of the object's middle from frame to frame
};

struct Verdict {
  std::string background = "none";
  std::vector<Reading> objects;  ///< one, or two where the world has pairs and both were seen in most frames
  double single = 0.0;           ///< share of the frames with objects that show no further thing of notable size
};

/// Reads a clip [F, H, W, 3] of the config's height and width; any number of frames. Throws UsageError for other sizes.
Verdict judge(const WorldConfig& config, const media::Frames& clip);

/// Which attributes are the scene's: of an object's, whether all objects have theirs. Readings are assigned to objects
/// as fits best; where their numbers differ, none is right.
struct Score {
  bool shape = false;
  bool colour = false;
  bool motion = false;
  bool background = false;
  bool size = false;  ///< always true where the scene's sizes have no names
  bool all() const { return shape && colour && motion && background && size; }
};

Score compare(const Verdict& verdict, const Scene& scene);

}  // namespace kinora::world
