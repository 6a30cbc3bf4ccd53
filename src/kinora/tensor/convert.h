// Between files and tensors: entries of a safetensors file as at::Tensor, and tensors into a file.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kinora/tensor/checkpoint.h"
#include "kinora/tensor/ledger.h"

namespace kinora {

at::ScalarType to_scalar_type(DType dtype);
/// UsageError for types that the file format does not have here (complex, quantised, unsigned above 8 bits).
DType to_dtype(at::ScalarType type);

/// The entry as a CPU tensor. Without `dtype`, or when it is the file's: a view of the mapping where the address suits
/// the type (zero copy; the tensor keeps the file open; writing to it is a crash), else a copy. Another `dtype`: a
/// converted copy. Views are counted as mapped in `ledger`, if one is given, until the tensor dies; copies are
/// allocated as weights. DataError when a BOOL holds other bytes than 0 and 1.
at::Tensor load_tensor(const std::shared_ptr<const SafetensorsFile>& file, const TensorEntry& entry,
                       std::optional<at::ScalarType> dtype = std::nullopt, Ledger* ledger = nullptr);
at::Tensor load_tensor(const CheckpointTensor& tensor, std::optional<at::ScalarType> dtype = std::nullopt,
                       Ledger* ledger = nullptr);

/// DataError with the count when a floating tensor holds NaN or infinity; reads all of it. `name` and `file` go into
/// the message.
void check_finite(const at::Tensor& tensor, std::string_view name, const std::filesystem::path& file);

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Writes the tensors (any device, any strides) atomically, larger element types first so that each can be viewed in
/// place, otherwise in the order given. One tensor at a time is copied. Throws as SafetensorsWriter.
void save_tensors(const std::filesystem::path& path, const NamedTensors& tensors, const Metadata& metadata = {});

}  // namespace kinora
