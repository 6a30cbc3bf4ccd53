#include "kinora/nn/module.h"

#include <cmath>

#include "kinora/base/error.h"

namespace kinora {

namespace init {
namespace {
struct Fans {
  double in, out;
};

Fans fans(const Tensor& t) {
  const double field = t.dim() > 2 ? static_cast<double>(t.numel() / (t.size(0) * t.size(1))) : 1.0;
  const double in = t.dim() > 1 ? static_cast<double>(t.size(1)) : 1.0;
  return {in * field, static_cast<double>(t.size(0)) * field};
}
}  // namespace

void zeros(Tensor& out, at::Generator&) { out.zero_(); }
void ones(Tensor& out, at::Generator&) { out.fill_(1); }

void xavier_uniform(Tensor& out, at::Generator& generator) {
  const auto [in, o] = fans(out);
  const double bound = std::sqrt(6.0 / (in + o));
  out.uniform_(-bound, bound, generator);
}

void kaiming_uniform(Tensor& out, at::Generator& generator) {
  const double bound = 1.0 / std::sqrt(fans(out).in);
  out.uniform_(-bound, bound, generator);
}

Init normal(double std) {
  return [std](Tensor& out, at::Generator& generator) { out.normal_(0.0, std, generator); };
}
}  // namespace init

const Param& Params::add(std::string name, std::vector<int64_t> shape, ParamOptions options) {
  const auto id = size();
  const auto [where, is_new] = by_name_.emplace(name, id);
  if (!is_new) throw std::logic_error(concat("parameter declared twice: ", name));
  params_.push_back({.id = id, .name = std::move(name), .shape = std::move(shape)});
  options_.push_back(std::move(options));
  return params_.back();
}

const Param* Params::find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : &params_[found->second];
}

int64_t Params::num_elements() const {
  int64_t total = 0;
  for (const auto& p : params_) total += c10::multiply_integers(p.shape);
  return total;
}

Scope Scope::operator/(std::string_view child) const {
  Scope inner = *this;
  inner.path_ = path_.empty() ? std::string(child) : concat(path_, ".", child);
  if (!older_path_.empty()) inner.older_path_ = concat(older_path_, ".", child);
  return inner;
}

Scope Scope::operator/(int64_t index) const { return *this / std::to_string(index); }

Scope Scope::frozen() const {
  Scope same = *this;
  same.trainable_ = false;
  return same;
}

Scope Scope::also_at(const Scope& older) const {
  Scope same = *this;
  same.older_path_ = older.path_;
  return same;
}

Param Scope::param(std::string_view name, std::vector<int64_t> shape, ParamOptions options) const {
  options.trainable = options.trainable && trainable_;
  const Scope place = *this / name;
  if (!place.older_path_.empty()) options.aliases.push_back(place.older_path_);
  return params_->add(place.path_, std::move(shape), std::move(options));
}

}  // namespace kinora
