// LoRA adapters of a model (offload/lora.h), as a user names them.
#pragma once

#include <filesystem>
#include <string>

namespace kinora::video {

struct Adapter {
  std::filesystem::path path;  ///< a safetensors file, or the folder of one in PEFT's form
  double strength = 1;         ///< multiplies the adapter's own scale; 0: left out
};

/// "FILE" or "FILE:STRENGTH"; what stands there as a file is one, whatever its name ends in. Throws UsageError for a
/// strength that is not finite.
Adapter parse_adapter(const std::string& text);

}  // namespace kinora::video
