// Runners of the random numbers and of the schedulers; a row of diffusion/schedulers.h needs no runner of its own.
#include "kinora/diffusion/schedulers.h"
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

/// The scheduler of a case: call.set has steps, sigmas and mu, call.step what the reference gives to each step (eta), which is a key
/// of the config here.
std::unique_ptr<Scheduler> scheduler_of(const Case& c) {
  Json config = c.config, steps = config.value("num_inference_steps", Json(1));
  for (const char* key : {"num_inference_steps", "note"}) config.erase(key);
  SchedulerContext context;
  if (const auto set = c.call.find("set"); set != c.call.end()) {
    if (set->contains("sigmas")) context.sigmas = set->at("sigmas").get<std::vector<double>>();
    if (set->contains("mu")) context.mu = set->at("mu").get<double>();
    steps = set->value("num_inference_steps", Json(std::max<size_t>(1, context.sigmas.size())));
  }
  if (const auto step = c.call.find("step"); step != c.call.end()) config.update(*step);
  return make_scheduler(c.cls, config, steps.get<int>(), context);
}

Tensor as_tensor(std::span<const double> values) {
  return at::tensor(at::ArrayRef<double>(values.data(), values.size()), at::kDouble);
}

Outputs scheduler_timesteps(const Case& c) {
  const auto scheduler = scheduler_of(c);
  Outputs out;
  out.tensors["timesteps"] = as_tensor(scheduler->timesteps());
  for (const auto& [name, values] : scheduler->tables()) out.tensors[name] = as_tensor(values);
  return out;
}

/// Every step from input.sample; the model is a * input + b * drift[i] with call.model = [a, b].
Outputs scheduler_trajectory(const Case& c) {
  const auto scheduler = scheduler_of(c);
  Outputs out = scheduler_timesteps(c);
  const JsonObject call(c.call, "call");
  Tensor x = c.input("sample");
  if (call.bool_or("scale_start", false)) x = x * scheduler->initial_sigma();
  const Tensor drift = c.input("drift"), given = c.has_input("noise") ? c.input("noise") : Tensor();
  std::optional<at::Generator> generator;
  if (call.has("seed")) generator = c.generator();
  const double a = c.call.at("model").at(0).get<double>(), b = c.call.at("model").at(1).get<double>();
  Trajectory trajectory;
  const auto noise = [&]() -> Tensor {
    if (given.defined()) return given[trajectory.call];
    if (!generator) throw DataError("the scheduler draws noise where the reference has none");
    return randn(x.sizes(), *generator, x.scalar_type());
  };
  std::vector<Tensor> samples;
  const int64_t steps = call.int_or("steps", static_cast<int64_t>(scheduler->timesteps().size()));
  for (int64_t i = 0; i < steps; ++i) {
    const Tensor model = a * scheduler->scale_input(x, static_cast<int>(i)) + b * drift[i];
    x = scheduler->step(trajectory, model, x, noise);
    samples.push_back(x);
  }
  out.tensors["trajectory"] = at::stack(samples);
  return out;
}

Outputs scheduler_add_noise(const Case& c) {
  Outputs out;
  out.tensors["out"] = scheduler_of(c)->add_noise(c.input("sample"), c.input("noise"),
                                                  as_tensor(c.call.at("at").get<std::vector<double>>()));
  return out;
}

/// Every step from input.z with given model outputs and draws; z_middle is the sample after half of the calls.
Outputs scheduler_steps(const Case& c) {
  const auto scheduler = scheduler_of(c);
  const auto times = scheduler->timesteps();
  const int calls = static_cast<int>(times.size()), middle = calls / 2;
  int draws_used = 0;
  const auto noise = [&] { return c.input(concat("noise.", draws_used++)); };
  Outputs out = scheduler_timesteps(c);
  out.tensors.erase("timesteps");
  Tensor z = c.input("z") * scheduler->initial_sigma();
  Trajectory trajectory;
  for (int i = 0; i < calls; ++i) {
    z = scheduler->step(trajectory, c.input(concat("model.", i)), z, noise);
    if (i + 1 == middle) out.tensors["z_middle"] = z;
  }
  out.tensors["z"] = z;
  out.values = {{"timesteps", std::vector<double>(times.begin(), times.end())},
                {"init_noise_sigma", scheduler->initial_sigma()},
                {"middle", middle},
                {"draws_used", draws_used}};
  return out;
}

}  // namespace

void add_schedulers(Registry& registry) {
  registry.add("torch.Generator", "draws", draws);
  registry.add("randn_tensor", "randn_tensor", randn_tensor);
  registry.add("RFLOW", "timesteps", rflow_timesteps);
  registry.add("RFlowScheduler", "add_noise+training_losses", rflow_training);
  const std::pair<const char*, Runner> methods[] = {{"trajectory", scheduler_trajectory},
                                                    {"timesteps", scheduler_timesteps},
                                                    {"add_noise", scheduler_add_noise},
                                                    {"scale_noise", scheduler_add_noise},
                                                    {"steps", scheduler_steps}};
  for (const auto& row : kSchedulers) {
    for (const auto& [method, runner] : methods) {
      if (!registry.find(row.class_name, method)) registry.add(std::string(row.class_name), method, runner);
    }
  }
}

}  // namespace kinora::parity
