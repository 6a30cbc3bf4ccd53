#include "kinora/video/pieces.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "kinora/diffusion/scheduler.h"
#include "kinora/graph/block_shapes.h"
#include "kinora/models/open_sora/stdit3.h"
#include "kinora/offload/lora.h"
#include "kinora/parallel/layouts.h"

namespace kinora::video {
namespace {

/// Parameters without memory.
std::unique_ptr<WeightSource> shapes_of(const Params& params, const ModelSizes& sizes) {
  if (sizes.quantize) {
    return std::make_unique<offload::QuantisedWeights>(
        offload::shape_of_byte_params(params, sizes.dtype(), *sizes.quantize));
  }
  std::vector<Tensor> shapes;
  for (const Param& p : params) shapes.push_back(at::empty(p.shape, at::TensorOptions(at::kMeta).dtype(sizes.dtype())));
  return std::make_unique<ResidentWeights>(std::move(shapes));
}

/// "spatial_blocks.13.attn.qkv.weight" by its name in the first block.
std::string in_first_block(const std::string& name) {
  const std::string_view stack = "_blocks.";
  const size_t begin = name.find(stack);
  if (begin == std::string::npos) return name;
  const size_t number = begin + stack.size();
  return name.substr(0, number) + "0" + name.substr(name.find('.', number));
}

/// Adapters of any block, in the first pair of blocks, without memory.
offload::Lora shape_of_adapters(const ModelSizes& sizes, const Params& pair) {
  const auto options = at::TensorOptions(at::kMeta).dtype(sizes.dtype());
  offload::Lora lora;
  for (const auto& [name, rank] : sizes.adapter_ranks) {
    const Param* const p = pair.find(in_first_block(name));
    if (!p || (lora.contains(p->id) && lora[p->id].a.size(0) >= rank)) continue;
    lora[p->id] = {at::empty({rank, p->shape[1]}, options), at::empty({p->shape[0], rank}, options)};
  }
  return lora;
}

/// Keeps at once whatever a cache keeps in any call.
class EverKept final : public Policy {
 public:
  EverKept(const Policy* cache, const Plan& plan) : cache_(cache) {
    if (plan.scheduler) schedule_ = plan.scheduler->timesteps();
  }
  bool keeps(const SiteKey& key, const Run& run) const override {
    Run r = run;
    for (size_t call = 0; cache_ && call < schedule_.size(); ++call) {
      r.step = {.call = static_cast<int>(call),
                .calls = static_cast<int>(schedule_.size()),
                .timestep = schedule_[call],
                .schedule = schedule_};
      if (cache_->keeps(key, r)) return true;
    }
    return false;
  }

 private:
  const Policy* cache_;
  std::span<const double> schedule_;
};

/// Every caption is as long as the model reads; the first latent frame is given where a clip is given anything.
models::STDiT3Inputs inputs_of(const models::STDiT3Config& model, const Plan& plan, const LatentSize& z, int64_t rows,
                               at::ScalarType dtype) {
  const auto options = at::TensorOptions(at::kMeta).dtype(dtype), wide = options.dtype(at::kFloat);
  const int64_t tokens = rows * model.model_max_length;
  models::STDiT3Inputs in;
  in.latents = at::empty({rows, model.in_channels, z.frames, z.height, z.width}, wide);
  in.timestep = at::empty({rows}, wide), in.fps = at::empty({1}, wide);
  in.height = static_cast<double>(plan.height), in.width = static_cast<double>(plan.width);
  in.embedded_caption =
      models::open_sora::Caption{at::empty({1, tokens, model.hidden_size}, options),
                                 std::vector<int64_t>(static_cast<size_t>(rows), model.model_max_length),
                                 {}};
  for (int64_t b = 0; b < 2 * model.depth; ++b)
    in.embedded_caption->keys_values.push_back(at::empty({1, tokens, 2 * model.hidden_size}, options));
  if (plan.is_given())
    in.frame_mask = at::zeros({rows, (z.frames + model.patch_size[0] - 1) / model.patch_size[0]}, at::kBool);
  return in;
}

}  // namespace

graph::PlanOptions plan_options(at::Device device, int64_t budget) {
  return {.budget = budget, .align_rows = device.is_cpu() ? 16 : 128};
}

BlockPieces::BlockPieces(const ModelSizes& sizes, const Plan& plan, const Policy* cache) {
  const at::NoGradGuard no_grad;
  models::STDiT3Config pair = sizes.transformer;  // its pairs of blocks are alike
  repeats_ = static_cast<double>(pair.depth), pair.depth = 1;
  const models::STDiT3 model(pair);
  const at::ScalarType dtype = sizes.dtype();
  const auto plain = shapes_of(model.params(), sizes);
  offload::LoraWeights weights(*plain, {shape_of_adapters(sizes, model.params())});
  const LatentSize z = latent_size(sizes.vae, plan);
  const auto patches = [&](int64_t size, size_t dim) {
    return (size + pair.patch_size[dim] - 1) / pair.patch_size[dim];
  };
  const Extent extent{.frames = patches(z.frames, 0), .rows = patches(z.height, 1) * patches(z.width, 2)};
  const auto layout = parallel::shape_of_layout(plan.spread.arrangement, facts_of(sizes.transformer), extent);
  std::vector<Branch> branches{Branch::cond};
  if (plan.is_guided() && !plan.branches_apart && plan.spread.arrangement.branches == 1)
    branches = {Branch::uncond, Branch::cond};
  const EverKept keeper(cache, plan);
  graph::BlockShapes shapes(&keeper, !plan.keeps_in_place);
  Run run;
  run.weights = &weights, run.policy = &shapes, run.layout = &layout.layout(), run.rows = branches;
  model.forward(run, inputs_of(pair, plan, z, plan.batch * static_cast<int64_t>(branches.size()), dtype));
  graphs_ = std::move(shapes.graphs);
  for (const auto& graph : graphs_) {
    const graph::PlanOptions options = plan_options(sizes.device, 0);
    planners_.emplace_back(*graph, options);
    least_ = std::max(least_, planners_.back().least());
    for (const graph::Node& node : graph->nodes) whole_seconds_ += repeats_ * seconds(*graph, node, options.machine);
  }
}

Pieces BlockPieces::within(int64_t budget) const {
  Pieces pieces{.budget = budget};
  double seconds = 0;
  for (const graph::Planner& planner : planners_) {
    const graph::Plan plan = planner.plan(budget);
    pieces.bytes = std::max(pieces.bytes, plan.bytes);
    seconds += repeats_ * plan.seconds;
  }
  pieces.slowdown = seconds / whole_seconds_;
  return pieces;
}

}  // namespace kinora::video
