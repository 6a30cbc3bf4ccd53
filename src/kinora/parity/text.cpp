// Runners of the text encoders.
#include "kinora/parity/runners.h"
#include "kinora/text/t5.h"

namespace kinora::parity {
namespace {

Outputs run_t5(const Case& c, const std::string& model_type) {
  Json config = c.config;
  if (!config.contains("model_type")) config["model_type"] = model_type;
  const text::T5Encoder encoder(text::T5Config::from_json(config, c.cls));
  auto weights = c.weights(encoder.params());
  const Run run{.weights = &weights};
  const Tensor ids = c.input("input_ids");
  const Tensor mask = c.has_input("attention_mask") ? c.input("attention_mask") : Tensor();
  Outputs out;
  out.tensors["last_hidden_state"] = encoder.forward(run, ids, mask);
  if (!c.call.contains("hidden")) return out;
  const auto states = encoder.hidden_states(run, ids, mask);
  for (const Json& wanted : c.call.at("hidden")) {
    const int64_t k = wanted.get<int64_t>();
    const int64_t index = k < 0 ? k + static_cast<int64_t>(states.size()) : k;
    out.tensors["hidden_states." + std::to_string(k)] = states.at(static_cast<size_t>(index));
  }
  return out;
}

Outputs t5_bucket(const Case& c) {
  const auto range = c.value("range").get<std::vector<int64_t>>();
  const JsonObject args(c.call.at("args"), "call.args");
  const Tensor relative = at::arange(range.at(0), range.at(1), at::kLong).unsqueeze(0);
  const Tensor bucket = text::relative_position_bucket(
      relative, args.bool_or("bidirectional", true), args.int_or("num_buckets", 32), args.int_or("max_distance", 128));
  return {.tensors = {{"bucket", bucket.to(at::kInt)}}, .values = {}, .results = {}};
}

}  // namespace

void add_text(Registry& registry) {
  registry.add("T5EncoderModel", "forward", [](const Case& c) { return run_t5(c, "t5"); });
  registry.add("UMT5EncoderModel", "forward", [](const Case& c) { return run_t5(c, "umt5"); });
  registry.add("T5Attention._relative_position_bucket", "forward", t5_bucket);
}

}  // namespace kinora::parity
