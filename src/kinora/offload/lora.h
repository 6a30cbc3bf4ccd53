// LoRA (Hu et al. 2022) added on the fly: y += (x A^T) B^T beside whatever gives y, so that the base's weights may be
// streamed, split or quantised, are never written, and adapters come and go.
#pragma once

#include <map>
#include <vector>

#include "kinora/nn/weights.h"
#include "kinora/tensor/checkpoint.h"

namespace kinora::offload {

/// What an adapter adds to one weight [out, in]: b a.
struct LoraPair {
  Tensor a;  ///< [rank, in]
  Tensor b;  ///< [out, rank], the adapter's scale in it
};
using Lora = std::map<int32_t, LoraPair>;  ///< by the parameter's id

uint64_t num_bytes(const Lora& lora);
/// CRC-32 of all that it adds, its scale among it, behind what gave `seed`.
uint32_t fingerprint(const Lora& lora, uint32_t seed = 0);

struct LoraOptions {
  at::ScalarType dtype = at::kFloat;  ///< of the run
  at::Device device = at::kCPU;
  double strength = 1;             ///< multiplies the adapter's own scale
  const Params* beside = nullptr;  ///< of another model, whose modules the file may name too: they are passed over
};

/// Reads an adapter for a model: a safetensors file, or the folder of one (with PEFT's adapter_config.json); empty where
/// all of it is for the model beside. Names are a module's path, after one of the prefixes that PEFT, diffusers and
/// others write ("base_model.model.", "transformer.", "unet.", "diffusion_model.", "text_encoder."), and "lora_A" and
/// "lora_B" (or "lora_down" and "lora_up") with ".weight". The scale is alpha / rank, or alpha / sqrt(rank) where the config says rslora; alpha comes from a tensor
/// "....alpha", else from the config or the file's metadata, else it is the rank. Throws DataError, naming tensors, for
/// modules that the model does not have, halves without the other, shapes that do not fit, and kinds that are not built
/// (DoRA, biases, convolutions, patterns of rank or alpha, an alpha in the metadata that is not both models').
Lora read_lora(const Checkpoint& checkpoint, const Params& params, const LoraOptions& options = {});

class LoraWeights final : public WeightSource {
 public:
  /// The base must outlive it.
  explicit LoraWeights(WeightSource& base, std::vector<Lora> adapters = {})
      : base_(base), adapters_(std::move(adapters)) {}
  /// With adapters merged: a new tensor where one has the parameter.
  Tensor get(const Param& param) override;
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) override;
  void expect(std::span<const int32_t> order) override { base_.expect(order); }
  std::vector<Lora>& adapters() { return adapters_; }

 private:
  WeightSource& base_;
  std::vector<Lora> adapters_;
};

}  // namespace kinora::offload
