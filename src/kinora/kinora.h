// Kinora for programs that embed it: text, pictures and clips to video. This header and what it includes know nothing
// of LibTorch; libkinora stands behind them. docs/api.md tells how to build with it.
//
//   kinora::Pipeline pipeline = kinora::Pipeline::load();  // the built-in model
//   const kinora::Clip clip = pipeline.generate({.prompts = {"a red ball moves to the right on grass"}}).at(0);
//   kinora::media::save_clip("ball.mp4", clip.frames, clip.metadata);
//
// What cannot be done throws a kinora::Error (base/error.h): UsageError for what was asked, DataError for a file,
// ResourceError for memory, disk, a device or another LibTorch, CancelledError after a stop; each says in one sentence
// what is wrong and in another what would work. Other exceptions are those of your callbacks, or bugs of Kinora.
// Nothing is printed but warnings, one line each on stderr; set_log_sink (base/log.h) takes them elsewhere.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/media/frames.h"
#include "kinora/media/metadata.h"
#include "kinora/media/output.h"

namespace kinora {

/// "0.1.0": of the library that is loaded.
const char* version() noexcept;

/// Threads of the operators, of the whole process: 1 .. 1024, at first one a core. Throws UsageError.
void set_num_threads(int threads);

/// automatic: bfloat16 where the device multiplies it, else float32.
enum class Dtype { automatic, float32, bfloat16 };

/// A LoRA adapter of the transformer and the text encoder.
struct Adapter {
  std::filesystem::path path{};  ///< a safetensors file, or the folder of one in PEFT's form
  double strength = 1;           ///< multiplies the adapter's own scale
};

/// Where a model lies. With no path: $KINORA_MODEL, else the one installed beside the library.
struct Model {
  std::filesystem::path folder{};  ///< with a model_index.json, as diffusers writes it; or the transformer's own folder
  std::filesystem::path transformer{}, vae{}, text_encoder{}, tokenizer{};  ///< parts that lie apart
  std::string device = "cpu";                                               ///< "cpu", "cuda" or "cuda:N"
  Dtype dtype = Dtype::automatic;
  /// Weights that do not fit into memory: "auto" (streamed from their files, block by block), "none" (refused), or
  /// "stream:N" (always, with N blocks in memory).
  std::string offload = "auto";
  uint64_t host_memory_bytes = 0;  ///< that weights streamed to another device than the CPU may take; 0: what is free
  /// Matrices of the text encoder and the transformer as bytes with a scale for each row: "int8", "fp8", or "none".
  /// These are not streamed.
  std::string quantize = "none";
  std::vector<Adapter> adapters{};  ///< added to what the layers give; the model's files stay as they are
};

/// What is asked for. What is left out comes from the model.
struct Request {
  std::vector<std::string> prompts{};            ///< UTF-8; a clip each
  std::optional<std::string> negative_prompt{};  ///< what the clips should not show
  std::optional<int64_t> height{}, width{};      ///< pixels, rounded down to the model's blocks (of 8, mostly)
  std::string resolution{}, aspect_ratio{};      ///< in their stead a size of Open-Sora's tables: "480p", "9:16" (H:W)
  std::optional<int64_t> num_frames{};           ///< of one pass
  std::optional<int64_t> steps{};                ///< of denoising
  std::optional<double> guidance_scale{};        ///< 1: none, and half the work
  std::optional<uint64_t> seed{};                ///< clip i is drawn from seed + i; none: drawn
  std::optional<double> fps{};                   ///< frames a second
  /// Suffixes of Open-Sora's prompts; where one is given and not the first, that is 6.5.
  std::optional<double> aesthetic_score{}, motion_score{};
  std::optional<std::string> camera_motion{};

  std::vector<media::Frames> references{};  ///< pictures and clips of any size; one picture alone: clips begin with it
  std::string mask_strategy{};              ///< where references stand, as in docs/generate.md
  std::optional<media::Frames> before{};    ///< a clip to go on from
  std::optional<media::Frames> after{};     ///< a clip to lead to
  int64_t loops = 1;                        ///< passes, each going on from the frames before it
  bool seamless = false;                    ///< one pass more, from the end back to the beginning
  std::optional<int64_t> condition_frames{};  ///< how many frames of its neighbour a pass is given
  double condition_edit = 0;                  ///< how far it may change what it is given: 0 (not) to below 1

  std::string cache = "none";       ///< what is reused between steps, "pab:spatial=2": docs/cache.md
  uint64_t cache_memory_bytes = 0;  ///< that the cache keeps at most; 0: what it takes
  int64_t batch = 0;                ///< clips at a time; 0: what fits into the memory, at most 8
  uint64_t memory_bytes = 0;        ///< resident bytes of the process at most (of the GPU there); 0: what is free
  std::string chunk = "auto";  ///< "auto": the denoiser in pieces where memory asks for it, to the same bits; "none"

  /// A file that keeps the work so far: written about once a minute and before anything is decoded. Where it is there
  /// already, generate() goes on with it, to the same bytes. Gone when the clips are made, unless it is to stay.
  std::filesystem::path job{};
  bool keeps_job = false;
};

/// A request with nothing left out.
struct Plan {
  int64_t clips, frames, height, width;  ///< frames: of each clip, with those of `before` and `after`
  int64_t steps, batch;
  double guidance_scale, fps;
  uint64_t seed;
  uint64_t peak_bytes;  ///< resident bytes of the process at the peak, estimated
};

/// load: 0 of 1, then 1, for each part of the model that is read; encode: texts; condition: given clips; denoise: model
/// calls; decode: frames.
enum class Stage { load, encode, condition, denoise, decode };
/// "load", "encode", ...
const char* stage_name(Stage stage) noexcept;

/// Called on the thread that called generate(), while it works. An exception from one ends the work and passes through.
struct Hooks {
  std::function<void(Stage stage, int64_t done, int64_t total)> on_progress{};
  /// Takes the frames of clip `index` as they are decoded, from frame `first` on; the clips then come back without.
  std::function<void(int64_t index, media::Frames frames, int64_t first)> on_frames{};
  /// Takes a few pictures of what each clip of a group, from clip `first` on, will be, after `preview_every` calls.
  std::function<void(const std::vector<media::Frames>& clips, int64_t first, int done, int calls)> on_preview{};
  int64_t preview_every = 0;
  std::stop_token cancel{};  ///< from any thread; CancelledError within a step, or behind a part that is being read
};

/// What the autoencoder makes frames from: [C, T, h, w], row-major.
struct Latents {
  std::array<int64_t, 4> shape{};
  std::vector<float> values;
};

struct Clip {
  media::Frames frames;  ///< [F, H, W, 3], 8-bit sRGB
  Latents latents;
  media::Metadata metadata;  ///< prompt, seed, model and settings, for save_clip
};

/// A model, ready to make clips. It is used by one thread at a time; several may work at once in threads of their own.
class Pipeline {
 public:
  /// Finds the parts, reads their configs, and holds every tensor's name and shape against them; weights are read when
  /// they are first needed and stay. Throws UsageError, DataError, ResourceError; the last before anything else where
  /// LibTorch is another than Kinora was built with.
  static Pipeline load(const Model& model = {});
  Pipeline(Pipeline&& other) noexcept;
  Pipeline& operator=(Pipeline&& other) noexcept;
  ~Pipeline();

  /// Checks a request and says what it comes to, in milliseconds. Throws UsageError, and ResourceError for what does
  /// not fit into the memory, naming the nearest size that does.
  Plan plan(const Request& request) const;

  /// A clip for each prompt; none depends on the others. Throws as plan(), and CancelledError, DataError for weights
  /// that give no finite numbers or a job that is damaged, UsageError for a job of another request.
  std::vector<Clip> generate(const Request& request, const Hooks& hooks = {});

  /// The clips of a job that is denoised: its latents are decoded and nothing else is done. Throws as generate(); for a
  /// request with `before` or `after` give generate() the request and its job instead, as their frames are not in it.
  std::vector<Clip> decode(const std::filesystem::path& job, const Hooks& hooks = {}, uint64_t memory_bytes = 0);

 private:
  struct Impl;
  explicit Pipeline(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kinora
