// A weight source inside a capture: what it hands out is a constant of the graph.
#pragma once

#include "kinora/graph/capture.h"
#include "kinora/nn/weights.h"

namespace kinora::graph {

class NotedWeights final : public WeightSource {
 public:
  explicit NotedWeights(WeightSource& inner) : inner_(inner) {}
  Tensor get(const Param& param) override {
    const ConstantsAllowed inside;
    Tensor value = inner_.get(param);
    note_constant(value);
    return value;
  }
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) override {
    const ConstantsAllowed inside;
    return inner_.linear(x, weight, bias);
  }

 private:
  WeightSource& inner_;
};

}  // namespace kinora::graph
