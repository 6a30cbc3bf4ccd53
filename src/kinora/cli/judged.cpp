#include "kinora/cli/judged.h"

#include <algorithm>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/cli/world_options.h"

namespace kinora::cli {

void Tally::add(const world::Score& score) {
  ++clips;
  shape += score.shape, colour += score.colour, motion += score.motion;
  background += score.background, size += score.size, all += score.all();
}

Json Tally::to_json() const {
  const auto share = [this](int64_t right) {
    return clips > 0 ? static_cast<double>(right) / static_cast<double>(clips) : 0.0;
  };
  return {{"clips", clips},          {"colour", share(colour)},         {"shape", share(shape)},
          {"motion", share(motion)}, {"background", share(background)}, {"size", share(size)},
          {"all", share(all)}};
}

std::vector<world::Scene> scenes_of(const world::WorldConfig& config, world::Split split, uint64_t seed) {
  std::vector<world::Scene> scenes = world::every_combination(config, split, seed);
  if (scenes.empty() || config.pairs <= 0.0) return scenes;
  const double share = std::min(config.pairs, 0.5);
  const auto pairs = static_cast<uint64_t>(std::lround(static_cast<double>(scenes.size()) * share / (1.0 - share)));
  for (uint64_t i = 0; i < pairs; ++i) scenes.push_back(world::draw_pair(config, seed + i, split));
  return scenes;
}

const world::Scene& evenly(const std::vector<world::Scene>& scenes, size_t i, size_t count) {
  return scenes[count < scenes.size() ? i * scenes.size() / count : i % scenes.size()];
}

std::vector<std::string> world_prompts(const std::filesystem::path& model, world::Split split, size_t count,
                                       uint64_t seed) {
  std::error_code ignored;
  if (model.empty() || !std::filesystem::exists(model / "world.json", ignored)) {
    throw UsageError("prompts can come from the built-in model's world only, and this is another model",
                     "give a file with a prompt on each line: --prompts FILE");
  }
  const auto scenes = scenes_of(read_world(model / "world.json"), split, seed);
  std::vector<std::string> prompts;
  for (size_t i = 0; i < count; ++i) prompts.push_back(world::caption(evenly(scenes, i, count), seed + i));
  return prompts;
}

void judge_clips(video::Pipeline& pipeline, const world::WorldConfig& config, const std::vector<world::Scene>& scenes,
                 const JudgeRequest& wanted, const std::function<void(JudgedClip clip)>& each) {
  constexpr size_t kAtOnce = 8;
  for (size_t first = 0; first < wanted.count; first += kAtOnce) {
    video::Request request = wanted.request;
    std::vector<world::Scene> told;
    for (size_t i = first; i < std::min(wanted.count, first + kAtOnce); ++i) {
      const world::Scene& scene = evenly(scenes, i, wanted.count);
      request.prompts.push_back(world::caption(scene, wanted.seed + i));
      told.push_back(world::as_told(scene, request.prompts.back()));
    }
    request.seed = wanted.seed + first;
    video::Hooks hooks;
    hooks.cancel = wanted.cancel;
    auto clips = pipeline.generate(request, hooks);
    for (size_t i = 0; i < clips.size(); ++i) {
      const world::Verdict verdict = world::judge(config, clips[i].frames);
      const world::Score score = world::compare(verdict, told[i]);
      each({request.prompts[i], *request.seed + i, std::move(told[i]), std::move(clips[i].frames), verdict, score});
    }
  }
}

}  // namespace kinora::cli
