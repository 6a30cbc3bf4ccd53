// A model whose blocks are two linear layers and a feed-forward part, for the tests of this room.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/nn/layers.h"
#include "kinora/nn/site.h"
#include "kinora/nn/test_weights.h"
#include "kinora/offload/store.h"

namespace kinora::offload::test {

struct ToyBlock {
  Linear attn, fc1, fc2;
  LayerNorm norm;
};

class ToyModel {
 public:
  explicit ToyModel(int blocks, int64_t width = 24) : in_(Scope(params_) / "embed", width, width) {
    for (int b = 0; b < blocks; ++b) {
      const Scope scope = Scope(params_) / "blocks" / b;
      blocks_.push_back({Linear(scope / "attn" / "proj", width, width), Linear(scope / "mlp" / "fc1", width, 2 * width),
                         Linear(scope / "mlp" / "fc2", 2 * width, width), LayerNorm(scope / "norm", width)});
    }
  }

  /// x [..., width] -> the same. `behind` runs behind each block.
  Tensor operator()(const Run& run, const Tensor& x, const std::function<void(int)>& behind = {}) const {
    Stack blocks{.path = "blocks", .blocks = static_cast<int>(blocks_.size())};
    blocks.block = [&](const Run& r, int b, Streams in) -> Streams {
      const ToyBlock& block = blocks_[static_cast<size_t>(b)];
      const std::string path = concat("blocks.", b, ".");
      Tensor y = in[0];
      y = y + site_tensor(r, {path + "attn", b, Kind::full, Point::residual},
                          [&] { return at::tanh(block.attn(r, block.norm(r, y))); });
      y = y + site_tensor(r, {path + "mlp", b, Kind::mlp, Point::residual},
                          [&] { return block.fc2(r, at::gelu(block.fc1(r, y))); });
      if (behind) behind(b);
      return {y};
    };
    return stack(run, blocks, {in_(run, x)})[0];
  }

  const Params& params() const { return params_; }
  std::vector<Tensor> values() const { return drawn_weights(params_, 5); }
  int32_t id(const std::string& name) const { return params_.find(name)->id; }

 private:
  Params params_;
  Linear in_;
  std::vector<ToyBlock> blocks_;
};

/// Every matrix of a block streams, however small.
inline constexpr int64_t kAll = 1;
inline constexpr int kMatrices = 3;  // of a block

}  // namespace kinora::offload::test
