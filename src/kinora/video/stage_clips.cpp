// The stages that the autoencoder works in: given frames to latents, latents to frames.
#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/video/stages.h"

namespace kinora::video {
namespace {

constexpr int64_t kCopiedAtOnce = 16;  // frames of a clip from a file on their way into the result

struct FrameSize {
  int64_t height, width;
};

FrameSize frame_size(const Work& work) {
  const int64_t block = work.parts.vae.downscale();
  return {work.plan.height / block * block, work.plan.width / block * block};
}

Run vae_run(const Work& work) {
  Run run;
  run.weights = &work.parts.loaded(work.parts.vae_part, work.hooks);
  run.cancel = work.hooks.cancel;
  return run;
}

/// pixels [3, F, H, W] in -1 .. 1 -> [C, T, h, w], the modes of the posteriors.
Tensor encode_pixels(const Work& work, const Tensor& pixels) {
  const Run run = vae_run(work);
  const Parts& parts = work.parts;
  const Tensor input = pixels.unsqueeze(0).to(at::TensorOptions(parts.device).dtype(parts.dtype));
  const Tensor latents = parts.vae.encode(run, input)[0].to(parts.dtype == at::kDouble ? at::kDouble : at::kFloat);
  if (at::isfinite(latents).all().item<bool>()) return latents;
  throw DataError(concat("the given frames have no finite latents in ", c10::toString(parts.dtype)),
                  "try --dtype float32; if it stays so, the weights are damaged");
}

/// Chunk by chunk, as they know nothing of each other: of a long clip only one is in memory as tensors.
Tensor encode_frames(const Work& work, const Reference& reference, int64_t first, int64_t count) {
  const auto [height, width] = frame_size(work);
  const int64_t micro = work.parts.vae.config().micro_frame_size, chunk = micro > 0 ? micro : count;
  std::vector<Tensor> latents;
  for (int64_t begin = 0; begin < count; begin += chunk) {
    const int64_t length = std::min(chunk, count - begin);
    latents.push_back(
        encode_pixels(work, media::to_tensor(fill_frames(reference, first + begin, length, height, width))));
  }
  return at::cat(latents, 1);
}

/// Latents of the last frames of a pass, `frames` of which are `pixels` [3, m, H, W]: what lies before them in their
/// chunk is not known and stands still.
Tensor encode_at_end(const Work& work, const Tensor& pixels) {
  const int64_t frames = pixels.size(1), micro = work.parts.vae.config().micro_frame_size;
  const int64_t before = work.plan.num_frames - frames, fill = micro > 0 ? before % micro : before;
  const Tensor whole = at::cat({pixels.narrow(1, 0, 1).expand({-1, fill, -1, -1}), pixels}, 1);
  const Tensor latents = encode_pixels(work, whole);
  const int64_t kept = work.plan.tail.latents;
  return latents.narrow(1, latents.size(1) - kept, kept).clone();
}

/// The chunks of a pass that hold frames low .. high - 1: they are frames begin .. end - 1.
struct Chunks {
  int64_t begin, end;
  Tensor latents;  ///< [1, C, T, h, w] for the autoencoder
};

Chunks chunks_of(const Work& work, const Tensor& latents, int64_t low, int64_t high) {
  const auto& vae = work.parts.vae;
  const int64_t frames = work.plan.num_frames, micro = vae.config().micro_frame_size;
  const int64_t chunk = micro > 0 ? micro : frames;
  const int64_t begin = low / chunk * chunk, end = std::min(frames, (high + chunk - 1) / chunk * chunk);
  const int64_t height = vae.downscale() * latents.size(2), width = vae.downscale() * latents.size(3);
  const int64_t skipped = begin > 0 ? vae.latent_size({begin, height, width})[0] : 0;
  const int64_t taken = vae.latent_size({end - begin, height, width})[0];
  return {
      begin, end,
      latents.narrow(1, skipped, taken).unsqueeze(0).to(at::TensorOptions(work.parts.device).dtype(work.parts.dtype))};
}

/// Frames first .. first + count - 1 of a pass, [3, count, H, W], not clamped.
Tensor decode_range(const Work& work, const Tensor& latents, int64_t first, int64_t count) {
  const Run run = vae_run(work);
  const Chunks chunks = chunks_of(work, latents, first, first + count);
  const Tensor pixels = work.parts.vae.decode(run, chunks.latents, chunks.end - chunks.begin)[0];
  return pixels.narrow(1, first - chunks.begin, count).clone();
}

Tensor pass_of(const Work& work, const Tensor& latents, int64_t pass) {
  return latents.narrow(1, pass * work.latent_frames(), work.latent_frames());
}

/// Takes frames for one clip in order and gives them on.
class Sink {
 public:
  Sink(const Work& work, int64_t index, Clip& clip, int64_t& done)
      : work_(work), index_(index), clip_(clip), done_(done), total_(work.clips() * work.plan.total_frames()) {
    if (work_.hooks.on_progress && done_ == 0) work_.hooks.on_progress(Stage::decode, 0, total_);
  }
  void add(media::Frames frames) {
    const int64_t count = frames.frames;
    frames.fps = work_.plan.fps;
    if (work_.hooks.on_frames) {
      work_.hooks.on_frames(index_, std::move(frames), added_);
    } else if (clip_.frames.frames == 0) {
      clip_.frames = std::move(frames);
      clip_.frames.rgb.reserve(static_cast<size_t>(work_.plan.total_frames() * clip_.frames.frame_bytes()));
    } else {
      clip_.frames.rgb.insert(clip_.frames.rgb.end(), frames.rgb.begin(), frames.rgb.end());
      clip_.frames.frames += count;
    }
    added_ += count, done_ += count;
    if (work_.hooks.on_progress) work_.hooks.on_progress(Stage::decode, done_, total_);
  }
  void add_file(const Reference& reference) {
    const auto [height, width] = frame_size(work_);
    for (int64_t first = 0; first < reference.frames.frames; first += kCopiedAtOnce) {
      if (work_.hooks.cancel.stop_requested()) throw CancelledError();
      const int64_t count = std::min(kCopiedAtOnce, reference.frames.frames - first);
      add(fill_frames(reference, first, count, height, width));
    }
  }

 private:
  const Work& work_;
  int64_t index_, added_ = 0;
  Clip& clip_;
  int64_t& done_;
  int64_t total_;
};

}  // namespace

Conditions encode_references(const Work& work) {
  Conditions conditions;
  const auto clips = static_cast<size_t>(work.clips());
  conditions.head.resize(clips), conditions.tail.resize(clips);
  std::map<const Reference*, Tensor> encoded;
  int64_t total = 0, done = 0;
  for (const Given& given : work.plan.given) {
    for (const ReferencePtr& reference : given.references) total += encoded.emplace(reference.get(), Tensor()).second;
  }
  const auto show = [&] {
    if (work.hooks.on_progress && total > 0) work.hooks.on_progress(Stage::condition, done, total);
  };
  if (total > 0) work.parts.loaded(work.parts.vae_part, work.hooks);
  show();
  for (const Given& given : work.plan.given) {
    std::vector<Tensor>& list = conditions.references.emplace_back();
    for (const ReferencePtr& reference : given.references) {
      if (work.hooks.cancel.stop_requested()) throw CancelledError();
      Tensor& latents = encoded.at(reference.get());
      if (!latents.defined()) {
        latents = encode_frames(work, *reference, 0, reference->frames.frames);
        ++done;
        show();
      }
      list.push_back(latents);
    }
  }
  return conditions;
}

void encode_ends(const Work& work, int64_t pass, const std::vector<Tensor>& latents, Conditions& conditions) {
  const Plan& plan = work.plan;
  const auto clips = static_cast<size_t>(work.clips());
  conditions.head.assign(clips, {}), conditions.tail.assign(clips, {});
  if (!plan.has_head(pass) && !plan.has_tail(pass)) return;
  work.parts.loaded(work.parts.vae_part, work.hooks);
  const auto [height, width] = frame_size(work);
  const auto pixels_of = [&, height = height, width = width](const ReferencePtr& clip, int64_t first, int64_t count) {
    return media::to_tensor(fill_frames(*clip, first, count, height, width));
  };
  // What comes from a file is the same for every clip.
  if (pass == 0 && plan.before) {
    const int64_t n = plan.head.frames;
    const Tensor head = encode_frames(work, *plan.before, plan.before->frames.frames - n, n);
    std::fill(conditions.head.begin(), conditions.head.end(), head);
  }
  if (plan.has_tail(pass) && (plan.after || plan.before)) {
    const Tensor tail = encode_at_end(work, pixels_of(plan.after ? plan.after : plan.before, 0, plan.tail.frames));
    std::fill(conditions.tail.begin(), conditions.tail.end(), tail);
  }
  const auto total = static_cast<int64_t>(clips);
  for (int64_t i = 0; i < total; ++i) {
    if (work.hooks.cancel.stop_requested()) throw CancelledError();
    if (work.hooks.on_progress) work.hooks.on_progress(Stage::condition, i, total);
    if (pass > 0) {
      const int64_t n = plan.head.frames;
      const Tensor end = decode_range(work, pass_of(work, latents[i], pass - 1), plan.num_frames - n, n);
      conditions.head[i] = encode_pixels(work, end);
    }
    if (plan.has_tail(pass) && !conditions.tail[i].defined()) {
      const Tensor begin = decode_range(work, pass_of(work, latents[i], 0), 0, plan.tail.frames);
      conditions.tail[i] = encode_at_end(work, begin);
    }
  }
  if (work.hooks.on_progress) work.hooks.on_progress(Stage::condition, total, total);
}

void decode(const Work& work, int64_t index, Clip& clip, int64_t& done) {
  const Plan& plan = work.plan;
  const Run run = vae_run(work);
  Sink sink(work, index, clip, done);
  if (plan.before) sink.add_file(*plan.before);
  for (int64_t pass = 0; pass < plan.passes(); ++pass) {
    const int64_t low = plan.has_head(pass) ? plan.head.frames : 0;
    const int64_t high = plan.num_frames - (plan.has_tail(pass) ? plan.tail.frames : 0);
    // Chunks of which no frame is kept are left out.
    const Chunks chunks = chunks_of(work, pass_of(work, clip.latents, pass), low, high);
    work.parts.vae.decode_chunks(
        run, chunks.latents, chunks.end - chunks.begin, [&](const Tensor& pixels, int64_t first) {
          if (!at::isfinite(pixels).all().item<bool>()) {
            throw DataError(concat("the model's frames are not finite in ", c10::toString(work.parts.dtype)),
                            "try --dtype float32; if it stays so, the weights are damaged");
          }
          const int64_t from = std::max(low - chunks.begin - first, int64_t{0});
          const int64_t to = std::min(high - chunks.begin - first, pixels.size(2));
          if (from < to) sink.add(media::to_frames(pixels[0].narrow(1, from, to - from), plan.fps));
        });
  }
  if (plan.after) sink.add_file(*plan.after);
}

}  // namespace kinora::video
