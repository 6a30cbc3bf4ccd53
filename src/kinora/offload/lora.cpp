#include "kinora/offload/lora.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/json.h"
#include "kinora/ops/linear.h"
#include "kinora/tensor/convert.h"

namespace kinora::offload {
namespace {

enum class Half : uint8_t { a, b, alpha };
struct Ending {
  std::string_view text;
  Half half;
};
constexpr Ending kEndings[] = {
    {".lora_A.weight", Half::a},    {".lora_A.default.weight", Half::a}, {".lora_down.weight", Half::a},
    {".lora.down.weight", Half::a}, {".lora_B.weight", Half::b},         {".lora_B.default.weight", Half::b},
    {".lora_up.weight", Half::b},   {".lora.up.weight", Half::b},        {".alpha", Half::alpha}};
constexpr std::string_view kPrefixes[] = {
    "", "base_model.model.", "transformer.", "unet.", "diffusion_model.", "model.diffusion_model.", "text_encoder."};

/// Keys of a config that decide what an adapter adds.
constexpr std::string_view kRead[] = {"lora_alpha", "use_rslora",     "rank_pattern", "alpha_pattern",
                                      "use_dora",   "fan_in_fan_out", "lora_bias"};

struct Halves {
  Tensor a, b, alpha;
};

/// What holds for all of an adapter's modules.
struct Scaling {
  std::optional<double> alpha;
  bool is_rank_stabilised = false;  // alpha / sqrt(rank), Kalajdzievski 2023

  double of(int64_t rank, std::optional<double> own_alpha) const {
    const auto r = static_cast<double>(rank);
    const double a = own_alpha.value_or(alpha.value_or(r));
    return a / (is_rank_stabilised ? std::sqrt(r) : r);
  }
};

const Param* param_of(const Params& params, std::string_view module) {
  for (const std::string_view prefix : kPrefixes) {
    if (!module.starts_with(prefix)) continue;
    if (const Param* p = params.find(std::string(module.substr(prefix.size())) + ".weight")) return p;
  }
  return nullptr;
}

void read_scaling(const JsonObject& o, Scaling& scaling) {
  if (o.has("lora_alpha")) scaling.alpha = o.require_number("lora_alpha");
  scaling.is_rank_stabilised = o.bool_or("use_rslora", false);
  for (const char* const key : {"rank_pattern", "alpha_pattern"}) {
    if (o.has(key) && !o.require_object(key).json().empty()) {
      throw DataError(concat(o.what(), ": ", key, " is not built"), "adapters of one alpha for all modules are");
    }
  }
  for (const char* const key : {"use_dora", "fan_in_fan_out", "lora_bias"}) {
    if (o.bool_or(key, false)) throw DataError(concat(o.what(), ": ", key, " is not built"), "plain LoRA is");
  }
}

/// adapter_config.json of PEFT beside the file, or what diffusers writes of it into the file: the same keys, behind the
/// component's name.
Scaling scaling_of(const Checkpoint& checkpoint) {
  Scaling scaling;
  const std::filesystem::path& path = checkpoint.path();
  const bool is_folder = std::filesystem::is_directory(path);
  const auto config = (is_folder ? path : path.parent_path()) / "adapter_config.json";
  if (std::filesystem::exists(config)) {
    const Json json = read_json_file(config);
    read_scaling(JsonObject(json, concat("'", config.string(), "'")), scaling);
    return scaling;
  }
  for (const auto& file : checkpoint.files()) {
    const auto found = file->metadata().find("lora_adapter_metadata");
    if (found == file->metadata().end()) continue;
    const std::string what = concat("lora_adapter_metadata of '", file->path().string(), "'");
    const Json all = parse_json(found->second, {}, what);
    Json own = Json::object();
    for (const auto& [key, value] : JsonObject(all, what).json().items()) {
      const std::string name = key.substr(key.rfind('.') + 1);
      const bool is_read = std::find(std::begin(kRead), std::end(kRead), name) != std::end(kRead);
      if (is_read && own.contains(name) && own[name] != value)
        throw DataError(concat(what, ": ", name, " is another for each model"), "give each model's adapter by itself");
      own[name] = value;
    }
    read_scaling(JsonObject(own, what), scaling);
  }
  return scaling;
}

std::map<int32_t, Halves> halves_of(const Checkpoint& checkpoint, const Params& params, const Params* beside) {
  std::map<int32_t, Halves> found;
  std::string unknown;
  bool is_for_another = false;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    bool is_known = false;
    for (const Ending& ending : kEndings) {
      if (!name.ends_with(ending.text)) continue;
      const auto module = std::string_view(name).substr(0, name.size() - ending.text.size());
      const Param* const param = param_of(params, module);
      const bool is_beside = !param && beside && param_of(*beside, module);
      is_known = is_known || param || is_beside, is_for_another = is_for_another || is_beside;
      if (!param) continue;
      Halves& halves = found[param->id];
      Tensor& place = ending.half == Half::a ? halves.a : ending.half == Half::b ? halves.b : halves.alpha;
      if (place.defined()) throw DataError(concat(checkpoint.path().string(), ": ", name, " is there under two names"));
      place = load_tensor(tensor, at::kFloat);
      check_finite(place, name, tensor.file->path());
    }
    if (!is_known && unknown.size() < 200) unknown += (unknown.empty() ? "" : ", ") + name;
  }
  if (!unknown.empty()) {
    throw DataError(concat(checkpoint.path().string(), ": the model has no place for ", unknown),
                    "give a plain LoRA of linear layers that was trained for this model");
  }
  if (found.empty() && !is_for_another) throw DataError(concat(checkpoint.path().string(), ": no lora_A and lora_B"));
  return found;
}

LoraPair pair_of(const Halves& halves, const Param& param, const Scaling& scaling, const LoraOptions& options,
                 const std::filesystem::path& path) {
  const Tensor &a = halves.a, &b = halves.b;
  const bool fits = a.defined() && b.defined() && a.dim() == 2 && b.dim() == 2 && param.shape.size() == 2 &&
                    a.size(0) == b.size(1) && a.size(0) > 0 && b.size(0) == param.shape[0] &&
                    a.size(1) == param.shape[1] && (!halves.alpha.defined() || halves.alpha.numel() == 1);
  if (!fits) {
    const auto shape = [](const Tensor& t) { return t.defined() ? concat(t.sizes()) : std::string("missing"); };
    throw DataError(concat(path.string(), ": A ", shape(a), " and B ", shape(b), " for ", param.name, " ",
                           at::IntArrayRef(param.shape)),
                    "A is [rank, in] and B [out, rank], alpha one number");
  }
  const double own = halves.alpha.defined() ? halves.alpha.item<double>() : 0;
  const double scale =
      options.strength * scaling.of(a.size(0), halves.alpha.defined() ? std::optional<double>(own) : std::nullopt);
  return {a.to(options.device, options.dtype), (b.to(at::kDouble) * scale).to(options.device, options.dtype)};
}

}  // namespace

uint64_t num_bytes(const Lora& lora) {
  uint64_t total = 0;
  for (const auto& [id, pair] : lora) total += pair.a.nbytes() + pair.b.nbytes();
  return total;
}

uint32_t fingerprint(const Lora& lora, uint32_t seed) {
  uint32_t sum = seed;
  for (const auto& [id, pair] : lora) {
    for (const Tensor& half : {pair.a, pair.b}) {
      const Tensor bytes = half.cpu().contiguous();
      sum = crc32({static_cast<const std::byte*>(bytes.const_data_ptr()), bytes.nbytes()}, sum);
    }
  }
  return sum;
}

Lora read_lora(const Checkpoint& checkpoint, const Params& params, const LoraOptions& options) {
  const Scaling scaling = scaling_of(checkpoint);
  Lora lora;
  for (const auto& [id, halves] : halves_of(checkpoint, params, options.beside)) {
    lora[id] = pair_of(halves, params[id], scaling, options, checkpoint.path());
  }
  checkpoint.check_unchanged();
  return lora;
}

Tensor LoraWeights::get(const Param& param) {
  Tensor value = base_.get(param);
  for (const Lora& lora : adapters_) {
    const auto found = lora.find(param.id);
    if (found != lora.end()) value = value + at::matmul(found->second.b, found->second.a);
  }
  return value;
}

Tensor LoraWeights::linear(const Tensor& x, const Param& weight, const Param* bias) {
  Tensor y = base_.linear(x, weight, bias);
  for (const Lora& lora : adapters_) {
    const auto found = lora.find(weight.id);
    if (found == lora.end()) continue;
    // In place: where the product is the largest thing of a block, a sum beside it would be half as much again.
    y.add_(ops::linear(ops::linear(x, found->second.a, std::nullopt), found->second.b, std::nullopt));
  }
  return y;
}

}  // namespace kinora::offload
