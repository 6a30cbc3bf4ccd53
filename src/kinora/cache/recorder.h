// Watches whole denoisings without a cache and measures what caches are set by: how the predictions of all calls lie to
// one another, how fast what the blocks add shrinks, and how the model's output follows its modulated input.
#pragma once

#include <map>
#include <vector>

#include "kinora/cache/calibration.h"
#include "kinora/cache/method.h"

namespace kinora::cache {

class Recorder final : public Method {
 public:
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  uint64_t kept_bytes() const override;
  int64_t most_kept_values() const override { return 2; }
  std::vector<Tensor> predict(Denoiser& model, const Tensor& latents, const Step& step,
                              std::span<const Branch> wanted) override;
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override;

  /// Whole denoisings that were seen; each counts alike.
  int64_t denoisings() const { return denoisings_; }
  /// As Context's; 0 for a model without a stack of blocks.
  int64_t rows() const { return rows_; }
  Gram gram() const;
  /// MagCache: for each call the mean over tokens of |what the blocks added| over that of the call before, cond; the
  /// first is 1.
  std::vector<double> ratios() const;
  /// TeaCache: the least squares polynomial of that many coefficients, highest power first, that gives the relative
  /// change of the blocks' output for one of the modulated input. Empty where the model does not tell the input.
  std::vector<double> coefficients(int64_t count = 5) const;

 private:
  void finish(int64_t calls);

  int64_t denoisings_ = 0, calls_ = 0, rows_ = 0;
  Tensor products_;  // float64, sum over denoisings
  std::map<Branch, std::vector<Tensor>> predictions_;
  Tensor first_latents_;
  Tensor indicator_, output_, residual_;  // cond, of the call before
  std::vector<double> ratio_sums_;
  std::vector<std::pair<double, double>> changes_;  // of the modulated input and of the blocks' output
};

}  // namespace kinora::cache
