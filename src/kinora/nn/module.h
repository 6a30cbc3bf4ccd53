// The module tree. A model is a plain struct of layers; a layer declares its parameters in a `Scope` (a place in the
// tree) when it is made and keeps the `Param`s, never tensors. Tensors come from a `WeightSource` (nn/weights.h) at the
// moment of use, so that a model does not know where its weights live.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kinora/tensor/param.h"

namespace kinora {

using at::Tensor;

/// First value of a parameter: fills `out` (float32, CPU) before training.
using Init = std::function<void(Tensor& out, at::Generator& generator)>;

namespace init {
void zeros(Tensor& out, at::Generator& generator);
void ones(Tensor& out, at::Generator& generator);
/// Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16); dims after the second count as receptive field.
void xavier_uniform(Tensor& out, at::Generator& generator);
/// Uniform in +-1 / sqrt(fan_in): PyTorch's default for linear and convolution layers.
void kaiming_uniform(Tensor& out, at::Generator& generator);
Init normal(double std);
}  // namespace init

/// What a model may say of a parameter beyond its name and shape.
struct ParamOptions {
  Init init = init::zeros;
  bool trainable = true;
  bool optional = false;                  ///< a checkpoint may leave it out; `init` makes it then
  std::vector<std::string> aliases = {};  ///< other names under which published checkpoints store it
};

/// The parameters of one model, in the order of declaration; a Param's id is its index.
class Params {
 public:
  /// Throws std::logic_error when the name is taken.
  const Param& add(std::string name, std::vector<int64_t> shape, ParamOptions options);
  int32_t size() const { return static_cast<int32_t>(params_.size()); }
  const Param& operator[](int32_t id) const { return params_.at(id); }
  const ParamOptions& options(int32_t id) const { return options_.at(id); }
  const Param* find(std::string_view name) const;  ///< nullptr: no such parameter
  auto begin() const { return params_.begin(); }
  auto end() const { return params_.end(); }
  int64_t num_elements() const;

 private:
  std::vector<Param> params_;
  std::vector<ParamOptions> options_;
  std::unordered_map<std::string, int32_t> by_name_;
};

/// A place in the module tree: scope / "blocks" / 3 / "attn" names the children of blocks.3.attn.
class Scope {
 public:
  explicit Scope(Params& params, std::string path = {}) : params_(&params), path_(std::move(path)) {}
  Scope operator/(std::string_view child) const;
  Scope operator/(int64_t index) const;
  Scope frozen() const;  ///< the same place, where nothing is trainable
  /// The same place, whose parameters older checkpoints store under `older`: their aliases.
  Scope also_at(const Scope& older) const;
  Param param(std::string_view name, std::vector<int64_t> shape, ParamOptions options = {}) const;
  const std::string& path() const { return path_; }

 private:
  Params* params_;
  std::string path_;
  std::string older_path_;  // empty: none
  bool trainable_ = true;
};

}  // namespace kinora
