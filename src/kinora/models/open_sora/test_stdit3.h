// For tests of STDiT3: the tiny model on drawn weights, and what goes in.
#pragma once

#include <vector>

#include "kinora/models/open_sora/stdit3.h"
#include "kinora/models/test_configs.h"
#include "kinora/nn/test_weights.h"

namespace kinora::models {

struct TestSTDiT3 {
  explicit TestSTDiT3(const STDiT3Config& config = tiny_stdit3(), at::ScalarType dtype = at::kDouble)
      : model(config), weights(drawn_weights(model.params(), 7, dtype)) {
    run.weights = &weights;
  }
  Tensor operator()(const STDiT3Inputs& in) const { return model.forward(run, in); }

  STDiT3 model;
  ResidentWeights weights;
  Run run;
};

/// float64, for tiny_stdit3(); `size` is the latents' frames, height and width.
inline STDiT3Inputs stdit3_inputs(int64_t batch = 2, const std::vector<int64_t>& size = {3, 5, 7}) {
  STDiT3Inputs in;
  in.latents = normal({batch, 4, size[0], size[1], size[2]}, 1);
  in.timestep = at::linspace(300, 900, batch, at::kDouble);
  in.caption = normal({batch, 1, 6, 12}, 2);
  in.fps = at::full({1}, 24, at::kDouble);
  in.height = 144;
  in.width = 256;
  return in;
}

/// The caption's mask for tiny_stdit3().
inline Tensor stdit3_mask(const std::vector<int64_t>& lengths) { return prefix_mask(lengths, 6); }

}  // namespace kinora::models
