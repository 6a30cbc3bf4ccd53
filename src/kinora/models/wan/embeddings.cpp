#include "kinora/models/wan/embeddings.h"

namespace kinora::models::wan {
namespace {

constexpr double kImageNormEps = 1e-5;

std::optional<Param> positions_of(const Scope& scope, const WanConfig& config) {
  if (config.pos_embed_seq_len == 0) return std::nullopt;
  return scope.param("pos_embed", {1, config.pos_embed_seq_len, config.image_dim});
}

std::optional<ImageEmbedding> image_embedder_of(const Scope& scope, const WanConfig& config) {
  if (config.image_dim == 0) return std::nullopt;
  return ImageEmbedding(scope, config);
}

}  // namespace

ImageEmbedding::ImageEmbedding(const Scope& scope, const WanConfig& config)
    : positions_(positions_of(scope, config)),
      norm1_(scope / "norm1", config.image_dim, {.eps = kImageNormEps}),
      ff_(scope / "ff" / "net" / 0 / "proj", scope / "ff" / "net" / 2, config.image_dim, config.image_dim,
          config.width(), ops::Activation::gelu),
      norm2_(scope / "norm2", config.width(), {.eps = kImageNormEps}) {}

Tensor ImageEmbedding::operator()(const Run& run, const Tensor& features) const {
  Tensor x = features;
  if (positions_) {
    const Tensor positions = run.weights->get(*positions_);
    x = x.reshape({-1, positions.size(1), x.size(2)}) + positions;
  }
  return norm2_(run, ff_(run, norm1_(run, x)));
}

ConditionEmbedder::ConditionEmbedder(const Scope& scope, const WanConfig& config)
    : frequencies_(config.freq_dim),
      time_embedder_(scope / "time_embedder", config.freq_dim, config.width()),
      time_proj_(scope / "time_proj", config.width(), 6 * config.width()),
      text_embedder_(scope / "text_embedder" / "linear_1", scope / "text_embedder" / "linear_2", config.text_dim,
                     config.width(), config.width(), ops::Activation::gelu_tanh),
      image_embedder_(image_embedder_of(scope / "image_embedder", config)) {}

Tensor ConditionEmbedder::time(const Run& run, const Tensor& t, at::ScalarType dtype) const {
  const Tensor rows = timestep_frequencies(t.flatten(), frequencies_, true, 0).to(dtype);
  const Tensor embedded = time_embedder_(run, rows);
  std::vector<int64_t> shape = t.sizes().vec();
  shape.push_back(embedded.size(1));
  return embedded.view(shape);
}

Tensor ConditionEmbedder::time_projection(const Run& run, const Tensor& time_embed) const {
  return time_proj_(run, ops::activate(time_embed, ops::Activation::silu));
}

RotaryTable rotary_positions(int64_t head_dim, int64_t frames, int64_t h, int64_t w, at::Device device) {
  const int64_t along_space = 2 * (head_dim / 6), along_time = head_dim - 2 * along_space;
  const auto table = [&](bool is_sine) {
    const auto part = [&](int64_t count, int64_t width, at::IntArrayRef where) {
      const Tensor frequency =
          at::pow(10000.0, at::arange(0, width, 2, at::kDouble) / static_cast<double>(width)).reciprocal();
      const Tensor angles = at::arange(count, at::kDouble).unsqueeze(1) * frequency;
      std::vector<int64_t> shape = where.vec();
      shape.push_back(width / 2);
      const Tensor values = (is_sine ? angles.sin() : angles.cos()).to(device, at::kFloat);
      return values.view(shape).expand({frames, h, w, width / 2});
    };
    return at::cat({part(frames, along_time, {frames, 1, 1}), part(h, along_space, {1, h, 1}),
                    part(w, along_space, {1, 1, w})},
                   3)
        .flatten(1, 2);
  };
  return {table(false), table(true)};
}

}  // namespace kinora::models::wan
