#include "kinora/cache/recorder.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/cache/branches.h"
#include "kinora/cache/change.h"

namespace kinora::cache {
namespace {

/// The rows of cond in [B, ...].
Tensor of_cond(const Run& run, const Tensor& rows) {
  if (!rows.defined()) return {};
  const auto branches = branches_of(run);
  const auto at = std::find(branches.begin(), branches.end(), Branch::cond);
  if (at == branches.end()) return {};
  return split_branches({rows}, branches.size())[static_cast<size_t>(at - branches.begin())][0];
}

}  // namespace

uint64_t Recorder::kept_bytes() const {
  uint64_t total = first_latents_.defined() ? first_latents_.nbytes() : 0;
  for (const auto& [branch, list] : predictions_) {
    for (const Tensor& t : list) total += t.nbytes();
  }
  return total;
}

std::vector<Tensor> Recorder::predict(Denoiser& model, const Tensor& latents, const Step& step,
                                      std::span<const Branch> wanted) {
  if (wanted.size() != 2) throw UsageError("a calibration needs guidance", "set a guidance scale other than 1");
  if (step.call == 0) predictions_.clear(), first_latents_ = latents.to(at::kCPU, at::kFloat).flatten(1);
  auto out = model.predict(latents, step, wanted);
  note({.call = step.call, .timestep = step.timestep, .what = "call"});
  for (size_t i = 0; i < wanted.size(); ++i)
    predictions_[wanted[i]].push_back(out[i].to(at::kCPU, at::kFloat).flatten(1));
  if (step.call + 1 == step.calls) finish(step.calls);
  return out;
}

void Recorder::finish(int64_t calls) {
  if (calls_ != 0 && calls_ != calls) throw UsageError("a calibration is for one number of steps");
  calls_ = calls;
  std::vector<Tensor> vectors = predictions_[Branch::cond];
  for (const Tensor& t : predictions_[Branch::uncond]) vectors.push_back(t);
  vectors.push_back(first_latents_);
  const int64_t clips = first_latents_.size(0);
  for (int64_t b = 0; b < clips; ++b) {
    std::vector<Tensor> rows;
    for (const Tensor& t : vectors) rows.push_back(t[b]);
    const Tensor all = at::stack(rows);  // [2 calls + 1, values]
    const Tensor products = at::mm(all, all.t()).to(at::kDouble) / static_cast<double>(all.size(1));
    products_ = products_.defined() ? products_ + products : products;
  }
  denoisings_ += clips;
  predictions_.clear();
}

Streams Recorder::stack(const Run& run, const Stack& blocks, Streams streams) {
  rows_ = streams[0].numel() / streams[0].size(-1) / first_latents_.size(0);
  const Tensor input = of_cond(run, streams[0]);
  const Tensor indicator = of_cond(run, blocks.probe(run, "modulated_input", streams));
  Streams out = run_blocks(run, blocks, 0, blocks.blocks, streams);
  const Tensor output = of_cond(run, out[0]), residual = output - input;
  const auto call = static_cast<size_t>(run.step.call);
  ratio_sums_.resize(std::max(ratio_sums_.size(), call + 1), 0.0);
  const auto clips = static_cast<double>(output.size(0));
  ratio_sums_[call] += (call > 0 ? mean_ratio(run, residual, residual_) : 1) * clips;
  if (call > 0 && indicator.defined()) {
    changes_.emplace_back(relative_change(run, indicator, indicator_), relative_change(run, output, output_));
  }
  indicator_ = indicator, output_ = output, residual_ = residual;
  return out;
}

Gram Recorder::gram() const {
  Gram gram{calls_, {}};
  const Tensor mean = (products_ / static_cast<double>(denoisings_)).contiguous();
  gram.products.assign(mean.data_ptr<double>(), mean.data_ptr<double>() + mean.numel());
  return gram;
}

std::vector<double> Recorder::ratios() const {
  std::vector<double> ratios;
  for (const double sum : ratio_sums_) ratios.push_back(sum / ratio_sums_[0]);
  return ratios;
}

std::vector<double> Recorder::coefficients(int64_t count) const {
  if (changes_.empty()) return {};
  const auto rows = static_cast<int64_t>(changes_.size());
  Tensor powers = at::empty({rows, count}, at::kDouble), wanted = at::empty({rows, 1}, at::kDouble);
  for (int64_t i = 0; i < rows; ++i) {
    const auto& [x, y] = changes_[static_cast<size_t>(i)];
    double power = 1;
    for (int64_t j = count - 1; j >= 0; --j, power *= x) powers[i][j] = power;
    wanted[i][0] = y;
  }
  const Tensor solved = std::get<0>(at::linalg_lstsq(powers, wanted)).contiguous();
  return {solved.data_ptr<double>(), solved.data_ptr<double>() + solved.numel()};
}

}  // namespace kinora::cache
