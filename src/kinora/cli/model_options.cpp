#include "kinora/cli/model_options.h"

#include <cstdlib>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/cli/command.h"

namespace kinora::cli {

namespace fs = std::filesystem;

void add_model_options(CLI::App& command, ModelOptions& options) {
  command.add_option("-m,--model", options.model, "model folder (default: the built-in model)");
  command.add_option("--transformer", options.transformer, "folder of the transformer, where it lies apart");
  command.add_option("--vae", options.vae, "folder of the autoencoder, where it lies apart");
  command.add_option("--text-encoder", options.text_encoder, "folder of the text encoder, where it lies apart");
  command.add_option("--tokenizer", options.tokenizer, "folder of the tokenizer, where it lies apart");
  command.add_option("--dtype", options.dtype, "bfloat16, float32, or auto (what the device is fast in)")
      ->capture_default_str();
  add_device(command, options.device);
  command
      .add_option(
          "--offload", options.offload,
          "weights that do not fit into memory: auto (streamed from their files, block by block; the same bytes), none "
          "(refused), or stream:N (always, with N blocks in memory)")
      ->capture_default_str();
  command.add_option(
      "--host-memory", options.host_memory,
      "with a GPU: most of the host's memory for weights that are streamed to it, such as 16GB; the rest "
      "is read from the files for every pass (default: what is free)");
}

void add_weight_options(CLI::App& command, ModelOptions& options) {
  command
      .add_option("--quantize", options.quantize,
                  "matrices of the text encoder and the transformer as bytes with a scale for each row: int8, fp8, or "
                  "none (half the memory of bfloat16, at a small loss)")
      ->capture_default_str();
  command
      .add_option("--lora", options.adapters,
                  "FILE or FILE:STRENGTH: an adapter for the transformer and the text encoder, a safetensors file or a "
                  "folder in PEFT's form; may be given several times")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

at::ScalarType parse_dtype(const std::string& name, at::Device device) {
  if (name == "auto") return video::preferred_dtype(device);
  if (name == "bfloat16" || name == "bf16") return at::kBFloat16;
  if (name == "float32" || name == "fp32") return at::kFloat;
  throw UsageError(concat("the dtype \"", printable(name), "\" is not known"), "choose bfloat16, float32 or auto");
}

fs::path builtin_model() {
  if (const char* chosen = std::getenv("KINORA_MODEL"); chosen != nullptr && *chosen != '\0') return chosen;
  std::error_code failed;
  const fs::path program = fs::read_symlink("/proc/self/exe", failed);
  for (const char* place : {"../share/kinora/shapes", "../assets/shapes", "../../assets/shapes"}) {
    const fs::path folder = (program.parent_path() / place).lexically_normal();
    if (fs::exists(folder / "model_index.json", failed)) return folder;
  }
  throw UsageError("the built-in model is not beside the program",
                   "give a model with --model FOLDER, or set KINORA_MODEL");
}

video::PipelineOptions pipeline_options(const ModelOptions& options, Ledger* ledger) {
  video::PipelineOptions out;
  out.device = parse_device(options.device);
  out.dtype = parse_dtype(options.dtype, out.device);
  out.ledger = ledger;
  out.offload = video::parse_offload(options.offload);
  out.host_memory = parse_bytes(options.host_memory);
  out.quantize = video::parse_quantize(options.quantize);
  for (const std::string& adapter : options.adapters) out.adapters.push_back(video::parse_adapter(adapter));
  out.paths = {options.model, options.transformer, options.vae, options.text_encoder, options.tokenizer};
  if (options.model.empty() && options.transformer.empty()) out.paths.model = builtin_model();
  return out;
}

}  // namespace kinora::cli
