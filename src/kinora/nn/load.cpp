#include "kinora/nn/load.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>

#include "kinora/base/error.h"
#include "kinora/tensor/convert.h"
#include "kinora/tensor/random.h"

namespace kinora {
namespace {

constexpr size_t kNamesShown = 5;

/// "3 tensors are missing (a, b, c)".
std::string say(const std::vector<std::string>& names, std::string_view what) {
  if (names.empty()) return {};
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) list += (i ? ", " : "") + names[i];
  if (names.size() > kNamesShown) list += ", ...";
  return concat(names.size(), names.size() == 1 ? " tensor is " : " tensors are ", what, " (", list, ")");
}

std::string join(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts) {
    if (part.empty()) continue;
    out += (out.empty() ? "" : "; ") + part;
  }
  return out;
}

}  // namespace

std::vector<const CheckpointTensor*> find_weights(const Params& params, const Checkpoint& checkpoint,
                                                  const LoadOptions& options) {
  std::vector<const CheckpointTensor*> found;
  std::vector<std::string> missing, misshapen, surplus;
  std::set<std::string> used;
  for (const auto& p : params) {
    std::string name = options.prefix + p.name;
    const CheckpointTensor* tensor = checkpoint.find(name);
    for (const std::string& alias : params.options(p.id).aliases) {
      if (!tensor) {
        name = options.prefix + alias;
        tensor = checkpoint.find(name);
      }
      used.insert(options.prefix + alias);  // some checkpoints store a tied tensor under each of its names
    }
    if (tensor && tensor->entry->shape != p.shape) {
      misshapen.push_back(concat(name, " is ", shape_text(tensor->entry->shape), ", not ", shape_text(p.shape)));
    }
    if (!tensor && !params.options(p.id).optional) missing.push_back(options.prefix + p.name);
    if (tensor) used.insert(name);
    found.push_back(tensor);
  }
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (used.contains(name) || !name.starts_with(options.prefix)) continue;
    const auto rest = name.substr(options.prefix.size());
    if (std::find(options.surplus.begin(), options.surplus.end(), rest) == options.surplus.end())
      surplus.push_back(name);
  }
  const auto problems =
      join({say(missing, "missing"), say(misshapen, "misshapen"), say(surplus, "not known to the model")});
  if (!problems.empty()) {
    throw DataError(concat(checkpoint.path().string(), ": ", problems),
                    "the weights and the config.json beside them must be of the same model");
  }
  return found;
}

void check_weights(const Params& params, const Checkpoint& checkpoint, const LoadOptions& options) {
  find_weights(params, checkpoint, options);
}

ResidentWeights load_weights(const Params& params, const Checkpoint& checkpoint, const LoadOptions& options) {
  const auto found = find_weights(params, checkpoint, options);
  at::NoGradGuard no_grad;
  at::Generator generator = cpu_generator(0);
  std::vector<Tensor> tensors;
  for (const auto& p : params) {
    Tensor value;
    if (found[p.id]) {
      value = load_tensor(*found[p.id], options.dtype, options.ledger);
      check_finite(value, found[p.id]->entry->name, found[p.id]->file->path());
    } else {
      value = at::empty(p.shape, at::kFloat);
      params.options(p.id).init(value, generator);
    }
    tensors.push_back(value.to(options.device, options.dtype));
  }
  checkpoint.check_unchanged();
  return ResidentWeights(std::move(tensors));
}

}  // namespace kinora
