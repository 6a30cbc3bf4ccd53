// Runners of the random numbers and of the schedulers.
#include "kinora/base/error.h"
#include "kinora/diffusion/rflow.h"
#include "kinora/parity/runners.h"
#include "kinora/tensor/random.h"

namespace kinora::parity {
namespace {

/// One generator, drawn from in the order of call.draws.
Outputs draws(const Case& c) {
  at::Generator generator = c.generator();
  Outputs out;
  int index = 0;
  for (const Json& entry : c.call.at("draws")) {
    const JsonObject draw(entry, "draw");
    const std::string fn = draw.require_string("fn");
    const at::ScalarType dtype = dtype_of(draw.string_or("dtype", "float32"));
    Tensor value;
    if (fn == "randperm") {
      value = at::randperm(draw.require_int("n", 0, 1 << 24), generator, at::TensorOptions().dtype(at::kLong));
    } else if (fn == "randint") {
      value = at::randint(draw.require_int("low"), draw.require_int("high"), draw.require_ints("shape"), generator,
                          at::TensorOptions().dtype(at::kLong));
    } else if (fn == "rand") {
      value = at::rand(draw.require_ints("shape"), generator, at::TensorOptions().dtype(dtype));
    } else if (fn == "randn") {
      value = randn(draw.require_ints("shape"), generator, dtype);
    } else {
      throw DataError(concat("unknown draw '", fn, "'"));
    }
    out.tensors[concat("draw", index++)] = value;
  }
  return out;
}

/// One generator for the whole batch, or a generator for each sample.
Outputs randn_tensor(const Case& c) {
  const Json args = c.args();
  const JsonObject call(args, "call.args");
  std::vector<int64_t> shape = call.require_ints("shape", 0);
  const at::ScalarType dtype = dtype_of(call.string_or("dtype", "float32"));
  const std::vector<int64_t> seeds = JsonObject(c.call, "call").require_ints("seeds", 0);
  if (seeds.size() > 1) shape.at(0) = 1;
  std::vector<Tensor> parts;
  for (const int64_t seed : seeds) {
    at::Generator generator = cpu_generator(static_cast<uint64_t>(seed));
    parts.push_back(randn(shape, generator, dtype));
  }
  Outputs out;
  out.tensors["out"] = at::cat(parts);
  return out;
}

/// config.note: an entry of `settings` is [height, width, frames, steps, dtype].
Outputs rflow_timesteps(const Case& c) {
  Json timesteps = Json::array();
  Json truncated = Json::array();
  for (const Json& entry : c.value("settings")) {
    const at::ScalarType dtype = dtype_of(entry.at(4).get<std::string>());
    const RFlowShift shift{entry.at(0).get<double>(), entry.at(1).get<double>(), entry.at(2).get<int64_t>(), dtype};
    const RFlow scheduler(entry.at(3).get<int>(), &shift);
    Json row = Json::array();
    Json integers = Json::array();
    for (const double t : scheduler.timesteps()) {
      row.push_back(t);
      integers.push_back(at::scalar_tensor(t, dtype).to(at::kLong).item<int64_t>());
    }
    timesteps.push_back(row);
    truncated.push_back(integers);
  }
  Outputs out;
  out.values = {{"timesteps", timesteps}, {"int_timesteps", truncated}};
  return out;
}

/// The loss with every frame, and with a mask whose last frame is forced to 1: frames outside the mask stay clean.
Outputs rflow_training(const Case& c) {
  const RFlow scheduler(1);
  const Tensor clean = c.input("x");
  const Tensor noise = c.input("noise");
  const Tensor velocity = c.input("model").chunk(2, 1)[0];  // the other half is a variance that nothing uses
  const Tensor mask = c.input("mask").to(at::kBool);
  mask.select(1, -1).fill_(true);
  const Tensor t = c.input("t");
  Outputs out;
  const Tensor noised = scheduler.add_noise(clean, noise, t);
  out.tensors["noised"] = noised;
  out.tensors["loss"] = rflow_loss(velocity, clean, noise);
  out.tensors["loss_masked"] = rflow_loss(velocity, clean, noise, mask);
  out.tensors["model_input_masked"] = at::where(mask.unsqueeze(1).unsqueeze(-1).unsqueeze(-1), noised, clean);
  return out;
}

}  // namespace

void add_schedulers(Registry& registry) {
  registry.add("torch.Generator", "draws", draws);
  registry.add("randn_tensor", "randn_tensor", randn_tensor);
  registry.add("RFLOW", "timesteps", rflow_timesteps);
  registry.add("RFlowScheduler", "add_noise+training_losses", rflow_training);
}

}  // namespace kinora::parity
