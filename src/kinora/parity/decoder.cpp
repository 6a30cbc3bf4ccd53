// Runners of the language models: logits of a prompt, of tokens one by one through the cache, and the tokens that come of
// it.
#include "kinora/models/decoder/generate.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {
namespace {

namespace decoder = models::decoder;

struct Model {
  Model(const Case& c, const char* model_type)
      : config(decoder::DecoderConfig::from_json(typed(c.config, model_type), c.cls)),
        model(config),
        weights(c.weights(model.params())) {
    run.weights = &weights;
  }
  static Json typed(Json config, const char* model_type) {
    config["model_type"] = model_type;
    return config;
  }
  Tensor operator()(const Tensor& ids) { return model.logits(run, model.hidden_states(run, ids, cache)); }

  decoder::DecoderConfig config;
  decoder::Decoder model;
  ResidentWeights weights;
  decoder::KvCache cache;
  Run run;
};

Outputs forward(const Case& c, const char* type) {
  Model model(c, type);
  return {.tensors = {{"logits", model(c.input("input_ids"))}}, .values = {}, .results = {}};
}

/// The first call.args.prompt tokens at once, each of the others by a call of its own.
Outputs decode(const Case& c, const char* type) {
  Model model(c, type);
  const Tensor ids = c.input("input_ids");
  const Json args = c.args();
  const int64_t prompt = JsonObject(args, "call.args").require_int("prompt", 1, ids.size(1) - 1);
  Outputs out;
  out.tensors["prefill"] = model(ids.narrow(1, 0, prompt));
  std::vector<Tensor> steps;
  for (int64_t i = prompt; i < ids.size(1); ++i) steps.push_back(model(ids.narrow(1, i, 1)));
  out.tensors["steps"] = at::cat(steps, 1);
  return out;
}

Outputs generate(const Case& c, const char* type) {
  Model model(c, type);
  const Json json = c.args();
  const JsonObject args(json, "call.args");
  decoder::GenerateOptions options{.max_new_tokens = args.require_int("max_new_tokens", 1, 1024),
                                   .eos_token_ids = model.config.eos_token_ids};
  at::Generator generator;
  if (args.bool_or("do_sample", false)) {
    const decoder::Sampling sampling{.temperature = args.number_or("temperature", 1),
                                     .top_k = args.int_or("top_k", 0),
                                     .top_p = args.number_or("top_p", 1)};
    generator = c.generator();
    options.choose = [&generator, sampling](const Tensor& logits) {
      return decoder::sampled(logits, sampling, generator);
    };
  }
  const Tensor ids = decoder::generate(model.run, model.model, c.input("input_ids"), model.cache, options);
  return {.tensors = {{"tokens", ids}}, .values = {}, .results = {}};
}

}  // namespace

void add_decoder(Registry& registry) {
  const auto add = [&registry](const char* cls, const char* type) {
    registry.add(cls, "forward", [type](const Case& c) { return forward(c, type); });
    registry.add(cls, "decode", [type](const Case& c) { return decode(c, type); });
    registry.add(cls, "generate", [type](const Case& c) { return generate(c, type); });
  };
  add("LlamaForCausalLM", "llama");
  add("OPTForCausalLM", "opt");
}

}  // namespace kinora::parity
