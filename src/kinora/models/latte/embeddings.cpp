#include "kinora/models/latte/embeddings.h"

#include "kinora/models/common/positions.h"
#include "kinora/ops/patchify.h"

namespace kinora::models::latte {
namespace {

constexpr int64_t kFrequencies = 256;

}  // namespace

PatchEmbed::PatchEmbed(const Scope& scope, const Options& options)
    : options_(options),
      weight_((scope / "proj")
                  .param("weight", {options.width, options.in_channels, options.patch_size, options.patch_size},
                         {.init = init::kaiming_uniform})),
      bias_((scope / "proj").param("bias", {options.width})) {}

Tensor PatchEmbed::operator()(const Run& run, const Tensor& video) const {
  const int64_t p = options_.patch_size;
  const Tensor x = ops::patchify(video, run.weights->get(weight_).unsqueeze(2), run.weights->get(bias_));
  const Tensor positions =
      sincos_2d_scaled(video.size(3) / p, video.size(4) / p, options_.width,
                       static_cast<double>(options_.interpolation_scale), static_cast<double>(options_.base_size));
  // The table stays in float32 until after the sum, as in the reference.
  return (x + positions.to(x.device())).to(x.scalar_type());
}

AdaLayerNormSingle::AdaLayerNormSingle(const Scope& scope, int64_t width)
    : embedder_(scope / "emb" / "timestep_embedder", kFrequencies, width),
      linear_(scope / "linear", width, 6 * width) {}

AdaLayerNormSingle::Time AdaLayerNormSingle::operator()(const Run& run, const Tensor& timestep,
                                                        at::ScalarType dtype) const {
  const Tensor embed = embedder_(run, timestep_frequencies(timestep, kFrequencies, true, 0).to(dtype));
  return {.embed = embed, .six = linear_(run, ops::activate(embed, ops::Activation::silu)).unflatten(1, {6, -1})};
}

}  // namespace kinora::models::latte
