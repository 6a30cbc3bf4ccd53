// Clips that a model makes for scenes of its world, each read by the judge: how good a model of the world is.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/video/pipeline.h"
#include "kinora/world/judge.h"
#include "kinora/world/world.h"

namespace kinora::cli {

/// How often each attribute was right.
struct Tally {
  int64_t clips = 0, shape = 0, colour = 0, motion = 0, background = 0, size = 0, all = 0;

  void add(const world::Score& score);
  /// Shares of the clips, 0 .. 1.
  Json to_json() const;
};

/// Every combination once, and behind them pairs in the share that the world has.
std::vector<world::Scene> scenes_of(const world::WorldConfig& config, world::Split split, uint64_t seed);

/// One of `count` scenes that lie evenly over all of them, or all of them again and again.
const world::Scene& evenly(const std::vector<world::Scene>& scenes, size_t i, size_t count);

/// Captions of `count` scenes of the world that lies in the model's folder. Throws UsageError where there is none.
std::vector<std::string> world_prompts(const std::filesystem::path& model, world::Split split, size_t count,
                                       uint64_t seed);

struct JudgedClip {
  std::string prompt;
  uint64_t seed;
  world::Scene scene;  ///< as the prompt tells it
  media::Frames frames;
  world::Verdict verdict;
  world::Score score;
};

struct JudgeRequest {
  video::Request request;  ///< its prompts and its seed are not used
  uint64_t seed = 0;       ///< of noise and phrasing
  size_t count = 1;
  std::stop_token cancel;
};

/// Makes and reads `count` clips of scenes that lie evenly over `scenes`. Throws what Pipeline::generate throws.
void judge_clips(video::Pipeline& pipeline, const world::WorldConfig& config, const std::vector<world::Scene>& scenes,
                 const JudgeRequest& wanted, const std::function<void(JudgedClip clip)>& each);

}  // namespace kinora::cli
