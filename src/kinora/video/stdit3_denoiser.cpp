#include "kinora/video/stdit3_denoiser.h"

#include <algorithm>
#include <numeric>

#include "kinora/base/error.h"
#include "kinora/nn/site.h"
#include "kinora/tensor/allocator.h"

namespace kinora::video {
namespace {

struct Padded {
  Tensor caption;  ///< [B, 1, longest, channels]
  Tensor mask;     ///< [B, longest]
};

Padded padded(const std::vector<Tensor>& features) {
  int64_t longest = 0;
  for (const Tensor& f : features) longest = std::max(longest, f.size(0));
  std::vector<Tensor> rows, masks;
  for (const Tensor& f : features) {
    rows.push_back(at::constant_pad_nd(f, {0, 0, 0, longest - f.size(0)}).unsqueeze(0));
    masks.push_back(at::arange(longest, at::kLong).lt(f.size(0)).to(at::kLong));
  }
  return {at::stack(rows), at::stack(masks)};
}

/// [B * T] of 0 and 1, once for each branch.
Tensor frame_mask(std::span<const uint8_t> active, const Tensor& latents, int64_t branches) {
  if (active.empty()) return {};
  const Tensor one = at::tensor(at::ArrayRef<uint8_t>(active.data(), active.size()), at::kByte).to(at::kBool);
  return one.view({latents.size(0), latents.size(2)}).repeat({branches, 1});
}

/// What belongs to one half of the samples: views, so that nothing is kept twice.
models::open_sora::Caption half_of(const models::open_sora::Caption& both, bool second) {
  const auto middle = both.lengths.begin() + static_cast<std::ptrdiff_t>(both.lengths.size() / 2);
  const auto begin = second ? middle : both.lengths.begin(), end = second ? both.lengths.end() : middle;
  const int64_t first = std::accumulate(both.lengths.begin(), begin, int64_t{0}),
                count = std::accumulate(begin, end, int64_t{0});
  models::open_sora::Caption half{both.tokens.narrow(1, first, count), {begin, end}, {}};
  for (const Tensor& t : both.keys_values) half.keys_values.push_back(t.narrow(1, first, count));
  return half;
}

}  // namespace

STDiT3Denoiser::STDiT3Denoiser(const models::STDiT3& model, const Run& run, TextFeatures cond, TextFeatures uncond,
                               const ClipShape& shape)
    : model_(model), run_(run), cond_(std::move(cond)), uncond_(std::move(uncond)), shape_(shape) {
  if (uncond_.empty()) {
    const Tensor null = run_.weights->get(model_.null_caption());
    for (const Tensor& f : cond_) uncond_.push_back(null.narrow(0, 0, std::min(f.size(0), null.size(0))));
  }
  if (cond_.size() != uncond_.size())
    throw UsageError(
        concat("guidance needs a caption for both branches, there are ", cond_.size(), " and ", uncond_.size()));
}

const models::open_sora::Caption& STDiT3Denoiser::caption_of(const Run& run, std::span<const Branch> wanted) {
  const std::vector<Branch> key(wanted.begin(), wanted.end());
  const auto found = captions_.find(key);
  if (found != captions_.end()) return found->second;
  for (const auto& [branches, caption] : captions_) {
    if (key.size() != 1 || branches.size() != 2) continue;
    return captions_.emplace(key, half_of(caption, branches[1] == key[0])).first->second;
  }
  TextFeatures all;
  for (const Branch branch : wanted) {
    const TextFeatures& part = branch == Branch::cond ? cond_ : uncond_;
    for (const Tensor& f : part) all.push_back(f.to(cond_.front().options()));
  }
  const CountAs kept(MemoryKind::caches);
  const auto [caption, mask] = padded(all);
  return captions_.emplace(key, model_.with_keys_values(run, model_.embed_caption(run, caption, mask))).first->second;
}

void STDiT3Denoiser::embed(std::span<const Branch> branches) {
  Run run = run_;
  run.rows = branches;
  caption_of(run, branches);
}

std::vector<Tensor> STDiT3Denoiser::predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) {
  const auto branches = static_cast<int64_t>(wanted.size());
  if (latents.size(0) != static_cast<int64_t>(cond_.size())) {
    throw UsageError(concat(latents.size(0), " clips are to be denoised with ", cond_.size(), " captions"));
  }
  Run run = run_;
  run.step = step;
  run.rows = wanted;
  models::STDiT3Inputs in;
  in.latents = branches == 1 ? latents : latents.repeat({branches, 1, 1, 1, 1});
  in.timestep = at::full({in.latents.size(0)}, step.timestep,
                         latents.options().dtype(latents.scalar_type() == at::kDouble ? at::kDouble : at::kFloat));
  in.embedded_caption = caption_of(run, wanted);
  in.frame_mask = frame_mask(step.active_frames, latents, branches);
  in.fps = at::full({1}, shape_.fps, at::kFloat);
  in.height = shape_.height;
  in.width = shape_.width;
  // The second half of the channels is a variance that rectified flow has no use for.
  const Tensor velocity = model_.forward(run, in).narrow(1, 0, latents.size(1));
  return velocity.split(latents.size(0), 0);
}

}  // namespace kinora::video
