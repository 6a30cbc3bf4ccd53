// The stages that the autoencoder works in: given frames to latents, latents to frames.
#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/video/stages.h"
#include "kinora/video/turns.h"

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

/// Frames [from, to) of these.
media::Frames cut(media::Frames frames, int64_t from, int64_t to) {
  const auto at = [&](int64_t frame) { return frames.rgb.begin() + frame * frames.frame_bytes(); };
  frames.rgb.erase(at(to), frames.rgb.end());
  frames.rgb.erase(frames.rgb.begin(), at(from));
  frames.frames = to - from;
  return frames;
}

/// The 2-D half's latents [1, C, n, h, w] of some frames, the first of which is frame `first` of the pass.
struct Pictures {
  Tensor latents;
  int64_t first;
};
using OnFrames = std::function<void(media::Frames frames, int64_t first)>;

media::Frames decode_pictures(const Work& work, const Tensor& latents) {
  const Tensor pixels = work.parts.vae.decode_space(vae_run(work), latents)[0];
  if (at::isfinite(pixels).all().item<bool>()) return media::to_frames(pixels, work.plan.fps);
  throw DataError(concat("the model's frames are not finite in ", c10::toString(work.parts.dtype)),
                  "try --dtype float32; if it stays so, the weights are damaged");
}

Tensor as_bytes(media::Frames& frames) {
  return at::from_blob(frames.rgb.data(), {static_cast<int64_t>(frames.rgb.size())}, at::kByte);
}

/// In rounds of some pictures for each rank; the frames come on the first.
void decode_in_turns(const Work& work, const std::vector<Pictures>& all, const OnFrames& on_frames) {
  comm::Communicator& ranks = work.parts.ranks;
  const auto [height, width] = frame_size(work);
  const auto rank = static_cast<size_t>(ranks.rank()), n = static_cast<size_t>(ranks.size());
  for (size_t begin = 0; begin < all.size(); begin += n) {
    work.check_cancelled();
    const size_t end = std::min(all.size(), begin + n);
    media::Frames own;
    if (begin + rank < end) own = decode_pictures(work, all[begin + rank].latents);
    if (rank > 0 && begin + rank < end) ranks.send(as_bytes(own), 0, "frames")->wait();
    for (size_t i = begin; rank == 0 && i < end; ++i) {
      media::Frames frames = i == begin ? std::move(own) : media::make_frames(all[i].latents.size(2), height, width);
      if (i > begin) ranks.recv(as_bytes(frames), static_cast<int>(i - begin), "frames")->wait();
      on_frames(std::move(frames), all[i].first);
    }
  }
}

/// VideoVae::decode_chunks by all ranks: each decodes the time of a chunk, then of all chunks' pictures some.
void decode_in_turns(const Work& work, const Chunks& chunks, const OnFrames& on_frames) {
  const Run run = vae_run(work);
  const auto& vae = work.parts.vae;
  comm::Communicator& ranks = work.parts.ranks;
  const int64_t micro = vae.config().micro_frame_size, at_once = std::max<int64_t>(1, vae.config().micro_batch_size);
  const int64_t chunk = micro > 0 ? micro : chunks.end - chunks.begin;
  const int64_t latent_chunk = vae.temporal().latent_frames(chunk);
  for (int64_t begin = chunks.begin; begin < chunks.end; begin += chunk * ranks.size()) {
    work.check_cancelled();
    const int64_t count = std::min<int64_t>(ranks.size(), (chunks.end - begin + chunk - 1) / chunk);
    const auto length = [&](int64_t i) { return std::min(chunk, chunks.end - begin - i * chunk); };
    const auto decode_time = [&](int64_t i) {
      const int64_t first = ((begin - chunks.begin) / chunk + i) * latent_chunk;
      const int64_t taken = std::min(latent_chunk, chunks.latents.size(2) - first);
      return vae.decode_time(run, chunks.latents.narrow(2, first, taken), length(i));
    };
    const auto times = make_in_turns(ranks, count, work.parts.device, "decoded time", decode_time);
    std::vector<Pictures> pictures;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t t = 0; t < length(i); t += at_once)
        pictures.push_back(
            {times[static_cast<size_t>(i)].narrow(2, t, std::min(at_once, length(i) - t)), begin + i * chunk + t});
    }
    decode_in_turns(work, pictures, on_frames);
  }
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
  std::vector<const Reference*> each;  // in the order of clips, which is the same on all ranks
  std::map<const Reference*, size_t> places;
  for (const Given& given : work.plan.given) {
    for (const ReferencePtr& reference : given.references) {
      if (places.emplace(reference.get(), each.size()).second) each.push_back(reference.get());
    }
  }
  if (!each.empty()) work.parts.loaded(work.parts.vae_part, work.hooks);
  const auto encode = [&](int64_t i) {
    const Reference& reference = *each[static_cast<size_t>(i)];
    return encode_frames(work, reference, 0, reference.frames.frames);
  };
  const auto encoded = in_turns(work, Stage::condition, static_cast<int64_t>(each.size()), encode);
  for (const Given& given : work.plan.given) {
    std::vector<Tensor>& list = conditions.references.emplace_back();
    for (const ReferencePtr& reference : given.references) list.push_back(encoded[places.at(reference.get())]);
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
  const int64_t n = plan.head.frames;
  const auto make = [&](int64_t count, c10::function_ref<Tensor(int64_t)> f) {
    return in_turns(work, Stage::condition, count, f);
  };
  if (pass == 0 && plan.before) {
    const auto head = [&](int64_t) { return encode_frames(work, *plan.before, plan.before->frames.frames - n, n); };
    std::fill(conditions.head.begin(), conditions.head.end(), make(1, head)[0]);
  }
  if (pass > 0) {
    conditions.head = make(work.clips(), [&](int64_t i) {
      return encode_pixels(work, decode_range(work, pass_of(work, latents[i], pass - 1), plan.num_frames - n, n));
    });
  }
  if (plan.has_tail(pass) && (plan.after || plan.before)) {
    const ReferencePtr& clip = plan.after ? plan.after : plan.before;
    const auto tail = [&](int64_t) { return encode_at_end(work, pixels_of(clip, 0, plan.tail.frames)); };
    std::fill(conditions.tail.begin(), conditions.tail.end(), make(1, tail)[0]);
  } else if (plan.has_tail(pass)) {
    conditions.tail = make(work.clips(), [&](int64_t i) {
      return encode_at_end(work, decode_range(work, pass_of(work, latents[i], 0), 0, plan.tail.frames));
    });
  }
}

void decode(const Work& work, int64_t index, Clip& clip, int64_t& done) {
  const Plan& plan = work.plan;
  work.parts.loaded(work.parts.vae_part, work.hooks);
  Sink sink(work, index, clip, done);
  const bool is_first = work.parts.ranks.rank() == 0;
  if (plan.before && is_first) sink.add_file(*plan.before);
  for (int64_t pass = 0; pass < plan.passes(); ++pass) {
    const int64_t low = plan.has_head(pass) ? plan.head.frames : 0;
    const int64_t high = plan.num_frames - (plan.has_tail(pass) ? plan.tail.frames : 0);
    // Chunks of which no frame is kept are left out.
    const Chunks chunks = chunks_of(work, pass_of(work, clip.latents, pass), low, high);
    decode_in_turns(work, chunks, [&](media::Frames frames, int64_t first) {
      const int64_t from = std::clamp<int64_t>(low - first, 0, frames.frames);
      const int64_t to = std::clamp<int64_t>(high - first, from, frames.frames);
      if (from < to) sink.add(cut(std::move(frames), from, to));
    });
  }
  if (plan.after && is_first) sink.add_file(*plan.after);
}

}  // namespace kinora::video
