// A parity case: what a public reference computed for a tiny random configuration. The file (safetensors) holds the
// class, its configuration, the recipe of weights and inputs, and the expected outputs; tests/cases/README.md describes
// the format.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/nn/module.h"
#include "kinora/nn/weights.h"

namespace kinora::parity {

/// An output that the reference gave: every stride-th element of the flattened tensor, or a JSON value.
struct Expected {
  std::vector<int64_t> shape;  ///< of the whole output
  Tensor stored;               ///< [ceil(numel / stride)]; float32 or an integer type
  int64_t stride = 1;
  double norm = 0;            ///< L2 norm of the whole output
  std::optional<Json> value;  ///< set: a JSON output, and nothing of the above
};

struct ListedWeight {
  std::vector<int64_t> shape;
  double scale = 1;
  double shift = 0;
};

struct Case {
  std::filesystem::path file;
  std::string cls;     ///< class or function of the reference, "STDiT3"
  std::string method;  ///< "forward", "decode", "encode+decode", ...
  Json config = Json::object();
  Json call = Json::object();  ///< the object of `call`; {"method": ...} in the sets that write it as a string
  Json results;                ///< exact JSON results, null where there are none
  double rtol = 1e-4;
  std::map<std::string, Json> input_specs;
  std::map<std::string, ListedWeight> listed_weights;  ///< by published tensor name
  std::map<std::string, Expected> outputs;
  std::map<std::string, Tensor> file_tensors;  ///< everything the file stores

  /// Dtype of weights and computation in the reference: call.dtype or config.dtype; float64 when neither says.
  at::ScalarType dtype() const;
  /// call.args or an empty object.
  Json args() const;
  /// A file that lies beside the case ("spiece_small.model").
  std::filesystem::path beside(const std::string& name) const { return file.parent_path() / name; }

  bool has_input(std::string_view name) const;
  /// The input as a tensor: by the recipe (real values in dtype(), integers int64), a stored tensor (real ones in
  /// dtype()), or JSON numbers with a dtype of their own; plain JSON numbers become dtype(). Throws DataError when
  /// there is none.
  Tensor input(const std::string& name) const;
  /// The plain JSON of an input given as {"value": ...}. Throws DataError when it is absent or a tensor.
  const Json& value(const std::string& name) const;

  /// One listed weight by its whole name, in dtype(). Throws DataError when the case does not list it.
  Tensor weight(const std::string& name) const;
  bool has_weight(const std::string& name) const;
  /// A value for every Param, made by the recipe from the name prefix + Param.name. A Param that is not listed gets its
  /// init when it is optional, NaN when call.only says that the call leaves it alone; else DataError, as for another
  /// shape and for a weight listed under the prefix that is no Param.
  ResidentWeights weights(const Params& params, const std::string& prefix = {}) const;

  /// torch.Generator("cpu").manual_seed(call.seed), for everything that draws, in order. Throws DataError without
  /// call.seed.
  at::Generator generator() const;
};

/// Reads a case file. Throws DataError when it is cut, no safetensors file, breaks the format, or has a tolerance that
/// would let anything pass.
Case read_case(const std::filesystem::path& file);

/// "float64", "bfloat16", "int32", ... Throws DataError for another word.
at::ScalarType dtype_of(std::string_view name);

}  // namespace kinora::parity
