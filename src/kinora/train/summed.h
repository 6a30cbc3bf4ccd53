// What one stage leaves to the next: tensors and notes in one safetensors file that says itself whether it is whole.
#pragma once

#include <filesystem>
#include <optional>

#include "kinora/tensor/convert.h"

namespace kinora::train {

/// Of names and values; the order does not matter, for that of tensors read back is another.
uint32_t sum_of(const NamedTensors& tensors);

/// Writes the file atomically, with a sum over tensors, their types and shapes and the notes among its metadata. Throws as save_tensors.
void save_summed(const std::filesystem::path& file, const NamedTensors& tensors, const Metadata& notes);

struct Summed {
  NamedTensors tensors;  ///< views of the file
  Metadata notes;
};

/// Nothing when there is no such file, and, with a warning that names it, when it is damaged: it can be made again. A file
/// that has no sum was written by an older version and is taken as it is.
std::optional<Summed> read_summed(const std::filesystem::path& file);

}  // namespace kinora::train
