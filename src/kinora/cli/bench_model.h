// What a measured model is to the bench: its parameters, one call, and what the call multiplies.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "kinora/cli/bench.h"
#include "kinora/nn/run.h"

namespace kinora::cli {

/// A model of its published size, with its inputs.
struct BenchModel {
  Json line;                                ///< "bench", "model" and the sizes
  std::function<void(const Run&)> forward;  ///< one call; owns the model and the inputs
  const Params* params = nullptr;           ///< the model's, so they live as long as `forward`
  double flops = 0;                         ///< of a call; 0: not known, so there is no floor
  std::array<int64_t, 3> product{};         ///< rows, columns, inner of the matrix product that makes the floor
  int64_t frames = 0;                       ///< that a call gives; 0: it gives none
  bool warm_up = true;                      ///< a call before those that are timed
};

/// Sizes and settings; each model has its own defaults and takes the options that it knows.
struct BenchModelOptions {
  std::vector<int64_t> latent{5, 32, 32}, clip{17, 256, 256};
  int64_t batch = 2, layers = 0, text_tokens = 0, steps = 30, repeats = 3, threads = 0;
  std::string dtype = "auto";
  bool encode = false;
  std::vector<double> budget;  ///< shares of the plain peak, for bench_pieces
};

constexpr int64_t kMostBenchSize = 16384;

using MakeBenchModel = BenchModel (*)(const BenchModelOptions&, at::ScalarType);

/// Of a scale that keeps values near 1.
ResidentWeights random_weights(const Params& params, at::ScalarType dtype);

/// Times `make`'s model on random weights, in turn with its matrix product, and prints the line. Returns the exit code.
int bench_model(const BenchModelOptions& options, MakeBenchModel make, Context& context);

/// Activations of one call with its blocks in pieces, within each of options.budget, against the plain call: a line each.
int bench_pieces(const BenchModelOptions& options, MakeBenchModel make, Context& context);

/// Times a whole denoising of it, an STDiT3, without a cache and with several, call by call in turn, and prints the line.
int bench_cache(const BenchModelOptions& options, MakeBenchModel make, Context& context);

/// One call of it over the ranks of this run, by every layout in turn; prints the line on the first. Throws PeerError where
/// bytes are not those of the formulas.
int bench_parallel(const BenchModelOptions& options, MakeBenchModel make, Context& context);
/// What the formulas say of 8 to 128 GPUs: a line for each number and each kind of link.
int bench_layouts(const BenchModelOptions& options, MakeBenchModel make, Context& context);

}  // namespace kinora::cli
