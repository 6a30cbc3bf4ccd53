// The four parts of a model behind one pipeline: configs and tensor names are checked when they are made, weights are
// read when a stage first needs them and can be let go of between stages.
#pragma once

#include <optional>

#include "kinora/cache/calibration.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/models/open_sora/video_vae.h"
#include "kinora/nn/load.h"
#include "kinora/offload/file_store.h"
#include "kinora/offload/host_tier.h"
#include "kinora/offload/lora.h"
#include "kinora/offload/streamed.h"
#include "kinora/tensor/checkpoint.h"
#include "kinora/text/t5.h"
#include "kinora/text/tokenizer.h"
#include "kinora/video/pipeline.h"

namespace kinora::video {

/// Weights that are not all in memory, and where they come from.
struct StreamedPart {
  /// in_host: what of them stays in the host's memory; none: they are read from the files for every pass.
  StreamedPart(const Params& params, std::unique_ptr<offload::FileStore> store, const offload::StreamPlan& plan,
               at::Device device, const std::optional<offload::StreamPlan>& in_host);
  std::unique_ptr<offload::FileStore> files;
  std::unique_ptr<offload::HostTier> host;
  offload::StreamedWeights weights;
};

/// What an adapter file holds for one part.
struct PartAdapter {
  Checkpoint checkpoint;
  offload::LoraOptions options;
  uint64_t bytes = 0;  ///< in memory
};

/// A part's weights: checked when it is made, read when they are first needed.
struct Part {
  /// Throws as check_weights.
  Part(const Params& parameters, const std::filesystem::path& folder, const kinora::LoadOptions& load_options);
  /// All of them, as bytes where `quantize` says so, or, within `budget` bytes, some that stay while the others are
  /// streamed from their files; adapters stay with either. What is there already stays as it is.
  WeightSource& loaded(const std::optional<uint64_t>& budget);
  bool is_loaded() const { return whole || streamed; }
  void let_go();
  /// What of the weights stays in the host's memory, where a device computes. Throws as plan_stream.
  std::optional<offload::StreamPlan> plan_in_host() const;
  /// CRC-32 over some bytes of every tensor: tells one training from another without reading it all.
  uint32_t fingerprint() const;
  uint64_t adapter_bytes() const;

  const Params* params;
  Checkpoint checkpoint;
  kinora::LoadOptions options;
  std::optional<offload::ByteFormat> quantize;
  /// Bytes of the host's memory for weights that are streamed to a device. None: the host computes.
  std::optional<uint64_t> host_memory;
  std::unique_ptr<WeightSource> whole;
  std::unique_ptr<StreamedPart> streamed;  ///< or these
  std::vector<PartAdapter> adapters;
  std::optional<offload::LoraWeights> adapted;  ///< around either
};

struct Parts {
  /// Throws as Pipeline::load.
  Parts(const PipelineOptions& options, ModelFolder found);

  /// The part's weights, read now if nobody needed them before. Reading one cannot be stopped; CancelledError behind it.
  WeightSource& loaded(Part& part, const Hooks& hooks, const std::optional<uint64_t>& budget = std::nullopt);
  /// Where all do not fit at once: lets go of every part but `kept`.
  void keep_only(const Part* kept);
  /// A warning for each text that is longer than the model reads.
  void warn_of_long_texts(const Plan& plan) const;
  /// What caches are set by, or null. Throws UsageError for one of other weights.
  const cache::Calibration* calibration() const;
  void put_calibration(cache::CalibratedRun run);

  comm::Traffic traffic;
  mutable comm::Counted ranks;  ///< talking changes nothing of a model
  int ranks_of_host;
  ModelFolder folder;
  at::ScalarType dtype;
  at::Device device;
  text::Tokenizer tokenizer;
  text::T5Encoder encoder;
  models::STDiT3 transformer;
  models::VideoVae vae;
  Part text_part, transformer_part, vae_part;
  ModelSizes sizes;
  Json adapters = Json::array();  ///< as Plan::adapters

 private:
  bool is_of_these_weights(const cache::Calibration& calibration) const;
  std::optional<cache::Calibration> calibration_;
  kinora::LoadOptions load_options(const PipelineOptions& options, std::vector<std::string> surplus) const;
  void check_parts_fit() const;
  void add(const Adapter& adapter);
};

}  // namespace kinora::video
