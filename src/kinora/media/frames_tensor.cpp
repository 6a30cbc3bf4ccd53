#include "kinora/media/frames_tensor.h"

#include <cstring>

namespace kinora::media {

at::Tensor to_tensor(const Frames& clip) {
  check(clip);
  const at::Tensor bytes =
      at::from_blob(const_cast<uint8_t*>(clip.rgb.data()), {clip.frames, clip.height, clip.width, 3}, at::kByte);
  return (bytes.permute({3, 0, 1, 2}).to(at::kFloat) / 127.5 - 1.0).contiguous();
}

Frames to_frames(const at::Tensor& pixels, double fps) {
  if (pixels.dim() != 4 || pixels.size(0) != 3)
    throw UsageError(concat("to_frames: [3, F, H, W] is wanted, not ", pixels.sizes()));
  Frames clip = make_frames(pixels.size(1), pixels.size(2), pixels.size(3), fps);
  const at::Tensor bytes = ((pixels.detach().to(at::kCPU, at::kFloat).clamp(-1, 1) + 1) / 2 * 255 + 0.5)
                               .to(at::kByte)
                               .permute({1, 2, 3, 0})
                               .contiguous();
  std::memcpy(clip.rgb.data(), bytes.const_data_ptr(), clip.rgb.size());
  return clip;
}

}  // namespace kinora::media
