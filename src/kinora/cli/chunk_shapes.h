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

/// gpt (GPT-2's width, causal), vit (ViT-L/16), unet, dit (a block of CogVideoX's kind). In float32, random weights.
ChunkShape chunk_shape(const std::string& name);
std::vector<std::string> chunk_shape_names();

}  // namespace kinora::cli
