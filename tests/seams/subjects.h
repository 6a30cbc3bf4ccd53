// The models of the seam tests, all tiny: STDiT3 and Latte (two pairs of blocks, one stream), CogVideoX (two blocks, two
// streams) and Wan (two blocks, one stream, a timestep for each row), in float64, with odd numbers of frames and rows.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kinora/nn/site.h"
#include "kinora/parallel/facts.h"

namespace kinora::seams {

struct Subject {
  std::string name;
  const Params* params = nullptr;
  std::vector<Tensor> values;  ///< of every parameter
  Tensor latents;              ///< batch 2: uncond, cond
  int blocks = 0;
  bool has_text_stream = false;  ///< blocks carry text beside video, and their layers serve both
  int attention_exchanges = 0;   ///< of two ranks in one model call: DSP with rows cut, Ulysses where it is not taken
  parallel::ModelFacts facts;
  Extent extent;
  int64_t text_rows = 0;                                                              ///< of a text stream
  std::function<Tensor(const Run&, const Tensor& latents, double timestep)> predict;  ///< -> the shape of latents

  ResidentWeights resident() const { return ResidentWeights(values); }
};

Subject make_stdit3();
Subject make_stdit3_with_given_frame();  ///< the first frame is not denoised
Subject make_cogvideox();
Subject make_latte();                 ///< its text mask differs from frame to frame
Subject make_wan_with_given_frame();  ///< the first frame enters at timestep 0

/// Timesteps of the tests' denoising: inside (100, 800) are calls 2 .. 7.
inline constexpr double kSchedule[] = {980, 850, 720, 600, 480, 360, 240, 110, 40};

/// Every call's prediction of a short denoising loop (Euler with a small step). `run` has the seams; its step is set
/// here.
std::vector<Tensor> denoise(const Subject& subject, Run run, std::span<const double> schedule = kSchedule);
std::vector<Tensor> denoise(const Subject& subject, Run run, std::span<const double> schedule, const Tensor& latents);

/// Largest |a - b| over all calls; NaN differs from everything, infinitely.
double distance(const std::vector<Tensor>& a, const std::vector<Tensor>& b);
bool identical(const std::vector<Tensor>& a, const std::vector<Tensor>& b);

}  // namespace kinora::seams
