// Text, pictures and clips to video: request -> plan -> encode -> denoise -> decode -> frames, in the order of Open-Sora
// 1.2's pipeline.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "kinora/cache/method.h"
#include "kinora/comm/traffic.h"
#include "kinora/media/frames.h"
#include "kinora/media/metadata.h"
#include "kinora/tensor/ledger.h"
#include "kinora/video/adapters.h"
#include "kinora/video/estimate.h"
#include "kinora/video/fit.h"
#include "kinora/video/job.h"
#include "kinora/video/model_folder.h"
#include "kinora/video/request.h"
#include "kinora/video/weight_budget.h"

namespace kinora::video {

struct PipelineOptions {
  ModelPaths paths;
  std::optional<at::ScalarType> dtype;  ///< none: preferred_dtype(device)
  at::Device device = at::kCPU;
  Ledger* ledger = nullptr;  ///< counts mapped weights
  Offload offload = {};      ///< what becomes of weights that do not fit
  uint64_t host_memory = 0;  ///< bytes that weights streamed to a device may take in the host's memory; 0: what is free
  /// Matrices of the text encoder and the transformer as bytes, made when weights are read. These are not streamed.
  std::optional<offload::ByteFormat> quantize = {};
  std::vector<Adapter> adapters = {};  ///< added to the transformer and the text encoder, each where it names modules
  /// The ranks that make requests together, or null for one process; outlives the pipeline. Each of them calls plan() and
  /// generate() with the same request. Frames come on the first rank alone, whose hooks are called; the others need none.
  /// They exchange tensors of `device` and of the CPU.
  comm::Communicator* ranks = nullptr;
  int ranks_of_host = 1;  ///< that share this machine's memory
};

/// bfloat16 where the device multiplies it, else float32.
at::ScalarType preferred_dtype(at::Device device = at::kCPU);

enum class Stage { load, encode, condition, denoise, decode };
const char* stage_name(Stage stage);

struct Hooks {
  std::function<void(Stage, int64_t done, int64_t total)>
      on_progress;  ///< load: 0 of 1, then 1, for each part; encode: texts; condition: given clips; denoise: model calls;
                    ///< decode: frames
  /// Receives the frames of clip `index` as they are decoded, beginning at frame `first`; the clips then come back without frames.
  std::function<void(int64_t index, media::Frames frames, int64_t first)> on_frames;
  /// Receives what a resume needs after each model call, and once more when everything is denoised: for JobFile.
  std::function<void(const Job& job)> on_job;
  /// Receives a few pictures of what each clip of a group will be, from clip `first` on, after every `preview_every`
  /// model calls; each costs the decoding of as many single frames, and the autoencoder stays in memory.
  std::function<void(const std::vector<media::Frames>& clips, int64_t first, int done, int calls)> on_preview;
  int64_t preview_every = 0;
  /// Receives every decision of the plan's cache, and the cache itself behind each group of clips and pass.
  std::function<void(const cache::Decision&)> on_decision;
  std::function<void(const cache::Method&)> on_cache;
  cache::Method* cache = nullptr;  ///< stands in for the plan's, and outlives the run: what watches or measures
  std::stop_token cancel;          ///< CancelledError within one step, or behind the part that is being loaded; of any
                                   ///< rank: on all of them
};

struct Clip {
  media::Frames frames;
  at::Tensor latents;  ///< [C, passes * T, h, w] float32 on the CPU, before the decoder
  media::Metadata metadata;
};

struct Parts;

class Pipeline {
 public:
  /// Finds the parts, reads their configs and holds every tensor's name and shape against them; weights follow when they are
  /// needed. Adapters are read once to be checked. Throws UsageError and DataError that name file, class or tensors.
  static Pipeline load(const PipelineOptions& options);
  Pipeline(Pipeline&&) noexcept;
  Pipeline& operator=(Pipeline&&) noexcept;
  ~Pipeline();

  /// What this rank has sent so far, by name.
  const comm::Traffic& traffic() const;
  const ModelFolder& folder() const;
  const ModelSizes& sizes() const;
  at::ScalarType dtype() const;

  /// What caches are set by: calibration.json beside the transformer's weights, and what was put; null where there is
  /// none. Throws UsageError for one of other weights.
  const cache::Calibration* calibration() const;
  /// Adds a run; a calibration of other weights is forgotten.
  void put_calibration(cache::CalibratedRun run);

  /// The request with every gap filled and every limit checked, memory too; warns of prompts that are longer than the
  /// model reads. Throws UsageError, ResourceError, DataError for the scheduler's settings.
  Plan plan(const Request& request) const;
  /// Bytes that a request like the plan's would run in, one clip at a time, beside what the process holds before it is
  /// planned: the smallest limit is both (fit.h).
  uint64_t least_room(const Plan& plan) const;
  /// The plan of a job that is denoised: generate() then decodes its latents and does nothing else. `memory` as in Request.
  /// Throws DataError for a job that is not, or of a model with other latents; UsageError for a clip before or after that
  /// is not the one it was; ResourceError. Warns where the autoencoder has other weights.
  Plan plan(const Job& job, uint64_t memory = 0) const;
  /// All that decides how a clip will look, by name; what a job keeps.
  Json settings(const Plan& plan) const;
  /// What the file of clip `index` will say.
  media::Metadata metadata(const Plan& plan, int64_t index) const;
  /// Size of the frames: the plan's, rounded down to the decoder's blocks.
  std::pair<int64_t, int64_t> frame_size(const Plan& plan) const;

  /// A clip for each prompt; clip i is drawn from seed + i and does not depend on the others. Throws UsageError for a
  /// plan that plan() did not make, CancelledError, DataError for weights, latents or frames that are not finite,
  /// ResourceError. With a job it goes on where that one stopped, to the same bytes; UsageError for a job of other
  /// settings, DataError for one that does not fit together.
  std::vector<Clip> generate(const Plan& plan, const Hooks& hooks = {}, Job from = {});
  std::vector<Clip> generate(const Request& request, const Hooks& hooks = {}) { return generate(plan(request), hooks); }

 private:
  explicit Pipeline(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace kinora::video
