// Whole models of AutoChunk's public tests, written plainly.
#include <memory>
#include <vector>

#include "kinora/cli/chunk_layers.h"
#include "kinora/cli/chunk_shapes.h"

namespace kinora::cli {
namespace {

/// Behind the embedding of tokens: positions, blocks, the last norm.
struct Gpt2 {
  Tensor operator()(const Tensor& tokens) const {
    Tensor x = tokens + noted(positions).narrow(0, 0, tokens.size(1));
    for (const TransformerBlock& block : blocks) x = block(std::move(x));
    return at::layer_norm(x, {x.size(2)});
  }
  static constexpr int64_t kWidth = 96;
  Tensor positions = at::randn({4096, kWidth}) * 0.1;
  std::vector<TransformerBlock> blocks{{kWidth, 4, true}, {kWidth, 4, true}};
};

/// Patches of 16 x 16, a class token in front, 24 blocks.
struct VitLarge {
  VitLarge() {
    for (int i = 0; i < 24; ++i) blocks.emplace_back(kWidth, 16, false);
  }
  Tensor operator()(const Tensor& picture) const {
    const Tensor patches =
        ops::conv(picture, noted(patch), noted(bias), {kPatch, kPatch}, {0, 0}).flatten(2).transpose(1, 2);
    Tensor x = at::cat({noted(token), patches}, 1);
    x = x + noted(positions).narrow(0, 0, x.size(1));
    for (const TransformerBlock& block : blocks) x = block(std::move(x));
    return at::layer_norm(x, {kWidth});
  }
  static constexpr int64_t kWidth = 1024, kPatch = 16;
  Tensor patch = at::randn({kWidth, 3, kPatch, kPatch}) * 0.03, bias = at::zeros({kWidth});
  Tensor token = at::randn({1, 1, kWidth}), positions = at::randn({4097, kWidth}) * 0.1;
  std::vector<TransformerBlock> blocks;
};

/// Levels of 224, 448, 672 and 896 channels, two residual blocks each on the way down and three on the way up, attention of
/// heads of 8 on all but the first. What a timestep gives is the same in every call: a shift for each block's channels.
class UNet2d {
 public:
  UNet2d() {
    std::vector<int64_t> skips{kChannels[0]};
    int64_t now = kChannels[0];
    for (size_t level = 0; level < 4; ++level) {
      Level& down = down_.emplace_back();
      for (int i = 0; i < 2; ++i) {
        add(down, now, kChannels[level], level > 0);
        skips.push_back(now = kChannels[level]);
      }
      if (level == 3) continue;
      down.resize.emplace(now, now, 3, 2);
      skips.push_back(now);
    }
    for (size_t level = 4; level-- > 0;) {
      Level& up = up_.emplace_back();
      for (int i = 0; i < 3; ++i) {
        add(up, now + skips.back(), kChannels[level], level > 0);
        skips.pop_back();
        now = kChannels[level];
      }
      if (level > 0) up.resize.emplace(now, now, 3);
    }
  }
  Tensor operator()(const Tensor& picture) const {
    Tensor x = first_(picture);
    std::vector<Tensor> skips{x};
    for (const Level& level : down_) {
      for (size_t i = 0; i < level.blocks.size(); ++i) skips.push_back(x = level.run(i, x));
      if (level.resize) skips.push_back(x = (*level.resize)(x));
    }
    x = middle_[1](attention_(middle_[0](x)));
    for (const Level& level : up_) {
      for (size_t i = 0; i < level.blocks.size(); ++i) {
        x = at::cat({x, skips.back()}, 1);
        skips.pop_back();
        x = level.run(i, x);
      }
      if (level.resize) x = (*level.resize)(at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)}));
    }
    return last_(norm_(x));
  }

 private:
  struct Level {
    std::vector<Resnet> blocks;
    std::vector<PictureAttention> attentions;
    std::optional<Conv> resize;
    Tensor run(size_t i, const Tensor& x) const {
      const Tensor y = blocks[i](x);
      return attentions.empty() ? y : attentions[i](y);
    }
  };
  static Resnet resnet(int64_t in, int64_t out) { return {in, out, false, at::randn({1, out}) * 0.1}; }
  static void add(Level& level, int64_t in, int64_t out, bool attends) {
    level.blocks.push_back(resnet(in, out));
    if (attends) level.attentions.emplace_back(out, out / 8);
  }
  static constexpr int64_t kChannels[4] = {224, 448, 672, 896};
  Conv first_{3, 224, 3}, last_{224, 3, 3};
  std::vector<Level> down_, up_;
  std::vector<Resnet> middle_{resnet(896, 896), resnet(896, 896)};
  PictureAttention attention_{896, 112};
  GroupNorm norm_{224};
};

template <typename Model>
std::function<Tensor(const Tensor&)> forward_of() {
  const auto model = std::make_shared<Model>();
  return [model](const Tensor& x) { return (*model)(x); };
}

Tensor picture(int64_t n) { return at::randn({1, 3, n, n}); }

}  // namespace

ChunkShape gpt2_shape() {
  const auto tokens = [](int64_t n) { return at::randn({1, n, Gpt2::kWidth}); };
  return {"gpt2-96", false, 512, 16, tokens, forward_of<Gpt2>()};
}

ChunkShape vit_shape() { return {"vit-l-384", true, 384, 16, &picture, forward_of<VitLarge>()}; }

ChunkShape unet2d_shape() { return {"unet2d", true, 64, 16, &picture, forward_of<UNet2d>()}; }

}  // namespace kinora::cli
