// Which model: the options that name it, and where the built-in one lies.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "kinora/video/pipeline.h"

namespace kinora::cli {

struct ModelOptions {
  std::string model, transformer, vae, text_encoder, tokenizer, dtype = "auto", device = "cpu", offload = "auto";
  std::string host_memory;  ///< as parse_bytes; empty: what is free
  std::string quantize = "none";
  std::vector<std::string> adapters;  ///< each FILE or FILE:STRENGTH
};

/// --model, --transformer, --vae, --text-encoder, --tokenizer, --dtype, --device, --offload, --host-memory.
void add_model_options(CLI::App& command, ModelOptions& options);

/// --quantize and --lora, of commands whose clips say what made them.
void add_weight_options(CLI::App& command, ModelOptions& options);

/// Throws UsageError for an unknown dtype, device, offload, format of weights or adapter, and when no model is named and the
/// built-in one is nowhere; ResourceError for a device that is not there.
video::PipelineOptions pipeline_options(const ModelOptions& options, Ledger* ledger);

/// "bfloat16", "float32", or "auto": bfloat16 where the device multiplies it. Throws UsageError.
at::ScalarType parse_dtype(const std::string& name, at::Device device = at::kCPU);

/// $KINORA_MODEL, share/kinora/shapes beside an installed program, assets/shapes beside a build folder. Throws UsageError.
std::filesystem::path builtin_model();

}  // namespace kinora::cli
