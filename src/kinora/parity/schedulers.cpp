// Runners of the random numbers and of the schedulers.
#include "kinora/base/error.h"
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

}  // namespace

void add_schedulers(Registry& registry) {
  registry.add("torch.Generator", "draws", draws);
  registry.add("randn_tensor", "randn_tensor", randn_tensor);
}

}  // namespace kinora::parity
