// What the tests of the seams share: a fixture that runs each test on every model, tolerances, gradients.
#pragma once

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "seams/subjects.h"

namespace kinora::seams {

/// Two ranks attend to the same rows in the same order, but a product of fewer rows may take another kernel: float64,
/// values near 1.
inline constexpr double kRounding = 1e-11;
/// What a broken run differs by, at least.
inline constexpr double kVisible = 1e-6;

class OnEachModel : public testing::TestWithParam<Subject (*)()> {
 protected:
  OnEachModel() : subject(GetParam()()), weights(subject.resident()) {
    at::set_num_threads(1);  // tensors are tiny, and ranks are threads already
    run.weights = &weights;
  }
  std::vector<Tensor> with(Policy& policy) const {
    kinora::Run r = run;
    r.policy = &policy;
    return denoise(subject, r);
  }
  at::NoGradGuard no_grad;
  Subject subject;
  ResidentWeights weights;
  kinora::Run run;
};

inline std::string name_of(const testing::TestParamInfo<Subject (*)()>& which) {
  const char* const names[] = {"STDiT3", "CogVideoX", "STDiT3WithGivenFrame", "Latte", "WanWithGivenFrame"};
  return names[which.index];
}

/// Of `share` times a function of one prediction.
struct Gradients {
  Tensor of_latents;
  std::vector<Tensor> of_parameters;  ///< by id; undefined: does not take part
};
/// Copies of the parameters that want gradients.
std::vector<Tensor> leaves_of(const Subject& subject);
/// `streamed`: gradients that a source has added up itself, by id.
Gradients gradients(const Subject& subject, const Run& run, const std::vector<Tensor>& leaves, double share = 1,
                    const std::map<int32_t, Tensor>* streamed = nullptr);
Gradients resident_gradients(const Subject& subject);
/// Of all ranks; undefined only where no rank's is defined.
Gradients sum(std::span<const Gradients> of_ranks);
/// Largest difference; infinite where one is undefined or NaN.
double distance(const Gradients& a, const Gradients& b);

}  // namespace kinora::seams
