// A small adapter for tests: drawn halves for every linear layer of the blocks of a tiny model.
#pragma once

#include <filesystem>
#include <string>

#include "kinora/tensor/random.h"
#include "kinora/video/test_model.h"

namespace kinora::video {

/// Halves of `rank` for the matrices under `stack`, by their names with "lora_A" and "lora_B"; b a is about a tenth of
/// a weight.
inline NamedTensors adapter_for(const Params& params, const std::string& stack, int64_t rank, uint64_t seed) {
  at::Generator generator = cpu_generator(seed);
  NamedTensors halves;
  const std::string end = ".weight";
  for (const Param& p : params) {
    if (!p.name.starts_with(stack) || !p.name.ends_with(end) || p.shape.size() != 2) continue;
    if (p.name.find("relative_attention_bias") != std::string::npos) continue;  // a table
    const std::string module = p.name.substr(0, p.name.size() - end.size());
    halves.emplace_back(module + ".lora_A.weight", 0.3 * randn({rank, p.shape[1]}, generator));
    halves.emplace_back(module + ".lora_B.weight", 0.1 * randn({p.shape[0], rank}, generator));
  }
  return halves;
}

/// The weights with `strength` b a of each pair of halves added.
inline NamedTensors merged(NamedTensors weights, const NamedTensors& halves, double strength) {
  for (size_t i = 0; i < halves.size(); i += 2) {
    const std::string name = halves[i].first.substr(0, halves[i].first.find(".lora_A")) + ".weight";
    for (auto& [own, value] : weights) {
      if (own == name) value = value + strength * at::matmul(halves[i + 1].second, halves[i].second);
    }
  }
  return weights;
}

}  // namespace kinora::video
