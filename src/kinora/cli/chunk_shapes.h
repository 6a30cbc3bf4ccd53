// The workloads of `kinora bench chunk`: shapes that AutoChunk (Zhao et al. 2024) is measured with, attention as plain
// products and softmax as there, and a video transformer with fused attention.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

namespace kinora::cli {

struct ChunkShape {
  std::string name;
  bool is_picture = false;     ///< size counts pixels each way; else tokens
  int64_t size = 0, step = 1;  ///< default, and what sizes are multiples of
  /// What goes in, of this size.
  std::function<at::Tensor(int64_t size)> input;
  /// The model's computation; weights are noted as constants of a capture.
  std::function<at::Tensor(const at::Tensor& x)> forward;
};

/// gpt (GPT-2's width, causal), vit (ViT-L/16), unet, dit (a block of CogVideoX's kind); whole models of the reference's
/// tests: gpt2-96, vit-l-384, unet2d. In float32, random weights. Throws UsageError for another name.
ChunkShape chunk_shape(const std::string& name);
std::vector<std::string> chunk_shape_names();

/// The models that AutoChunk's public tests run within budgets (ColossalAI, tests/test_autochunk).
ChunkShape gpt2_shape();    ///< GPT-2 of width 96: 2 layers, 4 heads, 512 tokens behind their embedding
ChunkShape vit_shape();     ///< ViT-L/16 of 24 layers on a picture of 384x384
ChunkShape unet2d_shape();  ///< diffusers' UNet2DModel as it is without a config, on a picture of 64x64

}  // namespace kinora::cli
