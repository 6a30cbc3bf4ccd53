#include "kinora/parity/case.h"

#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/parity/recipe.h"
#include "kinora/tensor/convert.h"
#include "kinora/tensor/random.h"

namespace kinora::parity {
namespace {

constexpr double kLoosest = 0.01;  // ten times the widest of the published cases
constexpr JsonLimits kCaseLimits{.max_bytes = size_t{16} << 20, .max_depth = 64};

/// Copies, so that a runner may write into them; `note` gets the metadata entry "case".
std::map<std::string, Tensor> read_tensors(const std::filesystem::path& path, std::string& note) {
  const auto file = std::make_shared<const SafetensorsFile>(path);
  const auto found = file->metadata().find("case");
  if (found == file->metadata().end()) {
    throw DataError(concat(path.string(), " is no parity case: its metadata has no entry \"case\""));
  }
  note = found->second;
  std::map<std::string, Tensor> tensors;
  for (const TensorEntry& entry : file->tensors()) tensors.emplace(entry.name, load_tensor(file, entry).clone());
  file->check_unchanged();
  return tensors;
}

Expected read_expected(const JsonObject& spec, const std::map<std::string, Tensor>& tensors) {
  Expected out;
  if (spec.json().contains("value")) {
    out.value = spec.json()["value"];
    return out;
  }
  out.shape = spec.require_ints("shape", 0, int64_t{1} << 32);
  out.stride = spec.int_or("stride", 1, 1, int64_t{1} << 32);
  out.norm = spec.require_number("norm");
  const auto stored = tensors.find(spec.require_string("tensor"));
  if (stored == tensors.end()) throw DataError(concat(spec.what(), " is not in the file"));
  out.stored = stored->second.reshape({-1});
  double elements = 1;  // double: sizes of a damaged file may overflow an integer
  for (const int64_t n : out.shape) elements *= static_cast<double>(n);
  if (std::ceil(elements / static_cast<double>(out.stride)) != static_cast<double>(out.stored.numel())) {
    throw DataError(
        concat(spec.what(), " stores ", out.stored.numel(), " values, which does not fit its shape and stride"));
  }
  return out;
}

void fill_flat(const Json& value, std::vector<double>& flat, std::vector<int64_t>& shape, size_t depth,
               const std::string& name) {
  const auto ragged = [&] { return DataError(concat("the input '", name, "' is no even array of numbers")); };
  if (!value.is_array()) {
    if (depth != shape.size() || !(value.is_number() || value.is_boolean())) throw ragged();
    flat.push_back(value.is_boolean() ? static_cast<double>(value.get<bool>()) : value.get<double>());
    return;
  }
  const auto size = static_cast<int64_t>(value.size());
  if (depth >= shape.size() || shape[depth] != size) throw ragged();
  for (const Json& item : value) fill_flat(item, flat, shape, depth + 1, name);
}

Tensor json_tensor(const Json& value, at::ScalarType dtype, const std::string& name) {
  std::vector<int64_t> shape;
  for (const Json* level = &value; level->is_array(); level = &level->front()) {
    shape.push_back(static_cast<int64_t>(level->size()));
    if (level->empty()) break;
  }
  std::vector<double> flat;
  fill_flat(value, flat, shape, 0, name);
  return at::tensor(flat, at::kDouble).reshape(shape).to(dtype);
}

}  // namespace

at::ScalarType dtype_of(std::string_view name) {
  constexpr std::pair<std::string_view, at::ScalarType> kNames[] = {
      {"float64", at::kDouble}, {"float32", at::kFloat}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16},
      {"int64", at::kLong},     {"int32", at::kInt},     {"uint8", at::kByte},   {"bool", at::kBool}};
  for (const auto& [word, type] : kNames) {
    if (word == name) return type;
  }
  throw DataError(concat("unknown dtype '", name, "'"));
}

at::ScalarType Case::dtype() const {
  for (const Json* place : {&call, &config}) {
    const auto found = place->find("dtype");
    if (found != place->end() && found->is_string()) return dtype_of(found->get<std::string>());
  }
  return at::kDouble;
}

Json Case::args() const {
  const auto found = call.find("args");
  return found != call.end() && found->is_object() ? *found : Json::object();
}

bool Case::has_input(std::string_view name) const { return input_specs.count(std::string(name)) != 0; }

Tensor Case::input(const std::string& name) const {
  const auto found = input_specs.find(name);
  if (found == input_specs.end()) throw DataError(concat("the case has no input '", name, "'"));
  const JsonObject spec(found->second, concat("input '", name, "'"));
  const bool own_dtype = spec.has("dtype");
  const at::ScalarType wanted = own_dtype ? dtype_of(spec.require_string("dtype")) : dtype();
  if (spec.has("recipe")) {
    const JsonObject recipe = spec.require_object("recipe");
    const std::vector<int64_t> shape = recipe.require_ints("shape", 0);
    if (recipe.has("low")) {
      const Tensor made = recipe_ints("input." + name, shape, recipe.require_int("low"), recipe.require_int("high"));
      return own_dtype ? made.to(wanted) : made;
    }
    return recipe_real("input." + name, shape, recipe.number_or("scale", 1), recipe.number_or("shift", 0)).to(wanted);
  }
  if (spec.has("tensor")) {
    const auto stored = file_tensors.find(spec.require_string("tensor"));
    if (stored == file_tensors.end()) throw DataError(concat("the input '", name, "' is not in the file"));
    return at::isFloatingType(stored->second.scalar_type()) ? stored->second.to(wanted) : stored->second;
  }
  return json_tensor(value(name), wanted, name);
}

const Json& Case::value(const std::string& name) const {
  const auto found = input_specs.find(name);
  if (found == input_specs.end() || !found->second.contains("value")) {
    throw DataError(concat("the case has no plain input '", name, "'"));
  }
  return found->second.at("value");
}

bool Case::has_weight(const std::string& name) const { return listed_weights.count(name) != 0; }

Tensor Case::weight(const std::string& name) const {
  const auto found = listed_weights.find(name);
  if (found == listed_weights.end()) throw DataError(concat("the case does not list the weight '", name, "'"));
  return recipe_real(name, found->second.shape, found->second.scale, found->second.shift).to(dtype());
}

ResidentWeights Case::weights(const Params& params, const std::string& prefix) const {
  const auto only = call.find("only");
  const bool partial = only != call.end() && only->is_array() && !only->empty();
  const auto used = [&](const std::string& name) {
    if (!partial) return true;
    for (const Json& beginning : *only) {
      if (name.rfind(beginning.get<std::string>(), 0) == 0) return true;
    }
    return false;
  };
  for (const auto& [name, listed] : listed_weights) {
    if (name.starts_with(prefix) && params.find(name.substr(prefix.size())) == nullptr)
      throw DataError(concat("the case lists the weight '", name, "', which the model does not have"));
  }
  at::Generator generator = cpu_generator(0);
  std::vector<Tensor> tensors;
  for (const Param& param : params) {
    const std::string name = prefix + param.name;
    const auto listed = listed_weights.find(name);
    if (listed != listed_weights.end()) {
      if (listed->second.shape != param.shape) {
        throw DataError(concat("the weight '", name, "' is ", at::IntArrayRef(listed->second.shape),
                               " in the case and ", at::IntArrayRef(param.shape), " in the model"));
      }
      tensors.push_back(weight(name));
    } else if (params.options(param.id).optional) {
      Tensor made = at::empty(param.shape, at::kFloat);
      params.options(param.id).init(made, generator);
      tensors.push_back(made.to(dtype()));
    } else if (!used(param.name)) {
      // NaN rather than the init: a call that touches it all the same must not pass by luck.
      tensors.push_back(at::full(param.shape, std::numeric_limits<double>::quiet_NaN(), dtype()));
    } else {
      throw DataError(concat("the model has a parameter '", name, "' that the case does not list"));
    }
  }
  return ResidentWeights(std::move(tensors));
}

at::Generator Case::generator() const {
  return cpu_generator(static_cast<uint64_t>(JsonObject(call, "call").require_int("seed", 0)));
}

Case read_case(const std::filesystem::path& file) {
  Case out;
  out.file = file;
  const std::string what = file.string();
  std::string note;
  out.file_tensors = read_tensors(file, note);
  const Json parsed = parse_json(note, kCaseLimits, what);
  const JsonObject meta(parsed, what);
  out.cls = meta.require_string("cls");
  if (meta.has("config")) out.config = meta.require_object("config").json();
  const Json* call = meta.find("call");
  if (call && call->is_string()) {
    out.call["method"] = *call;
  } else {
    out.call = meta.require_object("call").json();
  }
  out.method = JsonObject(out.call, what).string_or("method", "forward");
  if (const Json* results = meta.find("results")) out.results = *results;
  if (meta.has("tolerance")) out.rtol = meta.require_object("tolerance").require_number("rtol");
  if (!(out.rtol >= 0 && out.rtol <= kLoosest))
    throw DataError(concat(what, ": a tolerance of ", out.rtol, " compares nothing"), concat("choose 0 to ", kLoosest));
  if (meta.has("weights")) {
    for (const Json& entry : meta.require_array("weights")) {
      const JsonObject weight(entry, concat(what, ": weights"));
      const std::string name = weight.require_string("name");
      out.listed_weights[name] = {weight.require_ints("shape", 0), weight.number_or("scale", 1),
                                  weight.number_or("shift", 0)};
    }
  }
  if (meta.has("inputs")) {
    for (const auto& [name, spec] : meta.require_object("inputs").json().items()) {
      out.input_specs[name] = JsonObject(spec, concat(what, ": input ", name)).json();
    }
  }
  for (const auto& [name, spec] : meta.require_object("outputs").json().items()) {
    out.outputs[name] = read_expected(JsonObject(spec, concat(what, ": output ", name)), out.file_tensors);
  }
  if (out.outputs.empty()) throw DataError(concat(what, " is no parity case: it has no outputs"));
  return out;
}

}  // namespace kinora::parity
