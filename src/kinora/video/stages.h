// What a run does with the parts of a model, stage by stage: texts and given clips to latents, noise to latents, latents
// to frames. Pipeline::generate puts the stages in order.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kinora/cache/method.h"
#include "kinora/video/job.h"
#include "kinora/video/parts.h"

namespace kinora::video {

/// One run.
struct Work {
  Parts& parts;
  const Plan& plan;
  const Hooks& hooks;

  std::stop_token cancel = {};  ///< the caller's; hooks.cancel is without where a rank must not stop alone

  /// Throws CancelledError on all ranks once any of them was asked to stop. Collective.
  void check_cancelled() const;
  int64_t clips() const { return static_cast<int64_t>(plan.prompts.size()); }
  int64_t latent_frames() const;  ///< of a pass
};

/// `count` tensors, each made by one rank and known to all; in rounds of a tensor for each rank, between which a cancel is
/// agreed on and the stage's progress shown. Collective.
std::vector<Tensor> in_turns(const Work& work, Stage stage, int64_t count, c10::function_ref<Tensor(int64_t)> make);

/// What caches are made for.
cache::Context cache_context(const Plan& plan, const Parts& parts);
/// The plan's cache for one pass of one group of clips, or nothing. Throws UsageError.
std::unique_ptr<cache::Method> make_cache(const Plan& plan, const Parts& parts);

/// What a job has done must fit together and fit the run. Throws DataError.
void check_job(const Job& job, const Work& work);

/// Features [tokens, width] of every text, each encoded alone: a clip must not depend on its neighbours' lengths.
using Features = std::map<std::string, Tensor>;
Features encode_texts(const Work& work);

/// What clips are given, as latents [C, T, h, w]; a list is by clip.
struct Conditions {
  std::vector<std::vector<Tensor>> references;
  std::vector<Tensor> head, tail;  ///< of the pass that is to come; undefined where nothing is given
};
/// Encodes every reference; reads no weights where there is none. Throws UsageError as fill_frames.
Conditions encode_references(const Work& work);
/// Encodes the ends of pass `pass`: of the clips before and after, and of the passes that `latents` holds.
void encode_ends(const Work& work, int64_t pass, const std::vector<Tensor>& latents, Conditions& conditions);

/// Denoises `count` clips from job.first on in pass job.pass, beginning where job.state is; its end is appended to
/// job.latents. `calls` counts model calls of the whole run. Throws CancelledError, DataError for values not finite.
void denoise(const Work& work, const Conditions& conditions, const Features& features, int64_t count, Job& job,
             int64_t& calls);

/// Every frame of clip `index`, to Hooks::on_frames or into clip.frames. `done` counts frames of the whole run.
void decode(const Work& work, int64_t index, Clip& clip, int64_t& done);

}  // namespace kinora::video
