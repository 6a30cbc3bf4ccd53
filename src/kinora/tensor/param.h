// A parameter as models name it: what graphs, weight sources, checkpoints and optimizers share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kinora {

struct Param {
  int32_t id = -1;             ///< index in the model's Params
  std::string name;            ///< published tensor name, "spatial_blocks.3.attn.qkv.weight"
  std::vector<int64_t> shape;  ///< whole, whatever part of it a source holds
};

}  // namespace kinora
