// STDiT3 behind the denoiser's face: captions are embedded once per request, both guidance branches run in one call.
#pragma once

#include <map>
#include <stop_token>
#include <vector>

#include "kinora/diffusion/denoiser.h"
#include "kinora/models/open_sora/stdit3.h"

namespace kinora::video {

/// Features of one sample's text: [tokens, caption_channels].
using TextFeatures = std::vector<Tensor>;

struct ClipShape {
  double height, width, fps;  ///< pixels and rate as the model is told
};

class STDiT3Denoiser final : public Denoiser {
 public:
  /// cond and uncond: a tensor [tokens, caption_channels] per sample; uncond empty: the model's null caption, cut to each prompt's
  /// length as the reference does. `run` carries the weights and the live seams; step and rows are set for each call.
  STDiT3Denoiser(const models::STDiT3& model, const Run& run, TextFeatures cond, TextFeatures uncond,
                 const ClipShape& shape);

  /// Embeds the captions of these branches together. A call for one of them then has its part of that, with the bits that
  /// a call for all of them has: products of few tokens may differ from those of more.
  void embed(std::span<const Branch> branches);
  /// Rows of a call: the samples of the first wanted branch, then those of the next.
  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override;

 private:
  const models::open_sora::Caption& caption_of(const Run& run, std::span<const Branch> wanted);

  const models::STDiT3& model_;
  Run run_;
  TextFeatures cond_, uncond_;
  ClipShape shape_;
  std::map<std::vector<Branch>, models::open_sora::Caption> captions_;
};

}  // namespace kinora::video
