#include "kinora/media/lpips.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <span>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/media/frames_tensor.h"
#include "kinora/tensor/checkpoint.h"
#include "kinora/tensor/convert.h"

namespace kinora::media {
namespace {

constexpr size_t kStages = 5;
constexpr double kEpsilon = 1e-10;
constexpr std::array kShift = {-0.030, -0.088, -0.188}, kScale = {0.458, 0.448, 0.450};
constexpr const char* kHint = "docs/cli.md names the tensors of an LPIPS file and the command that makes one";

struct Conv {
  int64_t index;  ///< features.INDEX of torchvision
  int64_t kernel, stride, padding;
};

struct Stage {
  bool pools;
  std::span<const Conv> convs;
};

struct Trunk {
  const char* name;
  int64_t pool_side;   ///< of the poolings, all of stride 2
  int64_t least_side;  ///< below it a pooling would have nothing left
  std::array<Stage, kStages> stages;
};

constexpr std::array kAlex = {Conv{0, 11, 4, 2}, Conv{3, 5, 1, 2}, Conv{6, 3, 1, 1}, Conv{8, 3, 1, 1},
                              Conv{10, 3, 1, 1}};
constexpr std::array kVgg = {Conv{0, 3, 1, 1},  Conv{2, 3, 1, 1},  Conv{5, 3, 1, 1},  Conv{7, 3, 1, 1},
                             Conv{10, 3, 1, 1}, Conv{12, 3, 1, 1}, Conv{14, 3, 1, 1}, Conv{17, 3, 1, 1},
                             Conv{19, 3, 1, 1}, Conv{21, 3, 1, 1}, Conv{24, 3, 1, 1}, Conv{26, 3, 1, 1},
                             Conv{28, 3, 1, 1}};

Trunk alexnet() {
  const std::span<const Conv> all(kAlex);
  return {"AlexNet",
          3,
          31,
          {{{false, all.subspan(0, 1)},
            {true, all.subspan(1, 1)},
            {true, all.subspan(2, 1)},
            {false, all.subspan(3, 1)},
            {false, all.subspan(4, 1)}}}};
}

Trunk vgg16() {
  const std::span<const Conv> all(kVgg);
  return {"VGG16",
          2,
          16,
          {{{false, all.subspan(0, 2)},
            {true, all.subspan(2, 2)},
            {true, all.subspan(4, 3)},
            {true, all.subspan(7, 3)},
            {true, all.subspan(10, 3)}}}};
}

/// The tensors of a checkpoint, each held to the shape that it must have.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : checkpoint_(path) {}

  /// A size of 0 is any.
  at::Tensor read(const std::string& name, const std::vector<int64_t>& shape) const {
    const CheckpointTensor* found = checkpoint_.find(name);
    const std::string file = printable(checkpoint_.path().string(), 200);
    if (found == nullptr) throw DataError(concat("'", file, "' has no tensor ", name), kHint);
    const auto& has = found->entry->shape;
    bool fits = has.size() == shape.size();
    for (size_t i = 0; fits && i < shape.size(); ++i) fits = has[i] > 0 && (shape[i] == 0 || has[i] == shape[i]);
    if (!fits) {
      throw DataError(concat("'", file, "': ", name, " has the shape ", shape_text(has), ", where ", shape_text(shape),
                             " is needed (0: any)"),
                      kHint);
    }
    at::Tensor values = load_tensor(*found, at::kFloat);
    check_finite(values, name, found->file->path());
    return values;
  }
  bool has_kernel(const std::string& name, int64_t side) const {
    const CheckpointTensor* found = checkpoint_.find(name);
    return found != nullptr && found->entry->shape.size() == 4 && found->entry->shape.back() == side;
  }
  void check_unchanged() const { checkpoint_.check_unchanged(); }

 private:
  Checkpoint checkpoint_;
};

at::Tensor per_channel(const std::array<double, 3>& values) {
  return at::tensor(at::ArrayRef<double>(values), at::kFloat).view({1, 3, 1, 1});
}

/// Each place's vector of channels to length 1.
at::Tensor unit(const at::Tensor& x) { return x / (x.square().sum(1, true).sqrt() + kEpsilon); }

}  // namespace

Lpips Lpips::load(const std::filesystem::path& path) {
  const Reader reader(path);
  const Trunk trunk = reader.has_kernel("features.0.weight", 3) ? vgg16() : alexnet();
  Lpips out;
  out.trunk_ = trunk.name, out.least_side_ = trunk.least_side, out.pool_side_ = trunk.pool_side;
  int64_t channels = 3;
  for (size_t s = 0; s < kStages; ++s) {
    auto& stage = out.stages_.emplace_back();
    out.pools_.push_back(trunk.stages[s].pools);
    for (const Conv& conv : trunk.stages[s].convs) {
      const std::string name = concat("features.", conv.index);
      const at::Tensor weight = reader.read(name + ".weight", {0, channels, conv.kernel, conv.kernel});
      channels = weight.size(0);
      stage.push_back({weight, reader.read(name + ".bias", {channels}), conv.stride, conv.padding});
    }
    out.linear_.push_back(reader.read(concat("lin", s, ".model.1.weight"), {1, channels, 1, 1}));
  }
  reader.check_unchanged();
  return out;
}

std::vector<at::Tensor> Lpips::features(const at::Tensor& pictures) const {
  at::Tensor x = (pictures - per_channel(kShift)) / per_channel(kScale);
  std::vector<at::Tensor> out;
  for (size_t s = 0; s < stages_.size(); ++s) {
    if (pools_[s]) x = at::max_pool2d(x, {pool_side_, pool_side_}, {2, 2});
    for (const LpipsConv& conv : stages_[s]) {
      x = at::conv2d(x, conv.weight, conv.bias, {conv.stride, conv.stride}, {conv.padding, conv.padding}).relu_();
    }
    out.push_back(x);
  }
  return out;
}

at::Tensor Lpips::distance(const at::Tensor& a, const at::Tensor& b) const {
  const at::NoGradGuard no_grad;
  const int64_t count = a.size(0);
  at::Tensor sum = at::zeros({count}, at::kFloat);
  const std::vector<at::Tensor> both = features(at::cat({a, b}));
  for (size_t s = 0; s < both.size(); ++s) {
    const at::Tensor f = unit(both[s]);
    const at::Tensor apart = (f.narrow(0, 0, count) - f.narrow(0, count, count)).square();
    sum += at::conv2d(apart, linear_[s]).mean({1, 2, 3});
  }
  return sum;
}

void Lpips::check_size(int64_t height, int64_t width) const {
  if (std::min(height, width) >= least_side_) return;
  throw UsageError(concat("LPIPS with ", trunk_, " cannot see pictures of ", width, "x", height),
                   concat("both sides must be ", least_side_, " pixels or more"));
}

std::vector<double> Lpips::compare(const Frames& a, const Frames& b,
                                   const std::function<void(int64_t frame)>& before_frame) const {
  if (a.frames != b.frames || a.height != b.height || a.width != b.width)
    throw UsageError("the clips differ in size", "compare clips of equal frames, height and width");
  check_size(a.height, a.width);
  const at::Tensor x = to_tensor(a), y = to_tensor(b);
  std::vector<double> out;
  for (int64_t t = 0; t < a.frames; ++t) {
    if (before_frame) before_frame(t);
    const auto picture = [t](const at::Tensor& clip) { return clip.select(1, t).unsqueeze(0); };
    out.push_back(distance(picture(x), picture(y)).item<double>());
  }
  return out;
}

}  // namespace kinora::media
