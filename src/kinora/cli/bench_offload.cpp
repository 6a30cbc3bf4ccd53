// kinora bench offload: tokens a second of a decoder whose weights are not all on the device (HeteGen's workload, Zhao et
// al. 2024): resident, streamed, computed on the CPU, split between both; on this machine with a link and a CPU slowed
// down to given rates, beside what the formulas say; and whole models in virtual time.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <memory>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/cli/bench_model.h"
#include "kinora/cli/decoder_shapes.h"
#include "kinora/cli/model_options.h"
#include "kinora/models/decoder/decoder.h"
#include "kinora/offload/quantised.h"
#include "kinora/offload/split.h"

namespace kinora::cli {
namespace {

namespace decoder = models::decoder;
using at::Tensor;
using namespace offload;

struct Options {
  std::string model = "opt-6.7b-shape", dtype = "bfloat16", link = "1GB", cpu = "1GB", device = "600GB",
              memory = "24GB";
  int64_t layers = 0, prompt = 64, tokens = 8, repeats = 3, threads = 0;
  int slots = 2;
  double other_us = 400;
  bool is_virtual = false, has_bytes = false;
};

/// Layers' bytes and seconds, of the measured model or of one in virtual time.
struct Layers {
  int count = 0, resident = 0;
  int slots = 2;
  SplitRates rates;         ///< of one layer
  double ends_seconds = 0;  ///< embeddings and the last product, once a token

  double on_device() const { return rates.bytes / rates.device_rate + rates.other_seconds; }
  int streamed() const { return count - resident; }
};

double resident_seconds(const Layers& l) { return l.count * l.on_device() + l.ends_seconds; }

double streamed_seconds(const Layers& l) {
  Streaming plan{.resident = spread_evenly(l.count, l.resident),
                 .copy_seconds = l.rates.bytes / l.rates.link_rate,
                 .compute_seconds = l.on_device(),
                 .ring = l.slots,
                 .steps = 4};
  return std::max(seconds_per_step(plan, virtual_time(streaming(plan))), resident_seconds(l));
}

double cpu_seconds_of(const Layers& l) {
  return l.resident * l.on_device() + l.streamed() * (l.rates.bytes / l.rates.cpu_rate + l.rates.other_seconds) +
         l.ends_seconds;
}

/// The device works through the resident layers while the link goes on: that is time beside, spread over the others.
SplitRates spread_rates(const Layers& l) {
  SplitRates rates = l.rates;
  const double beside = l.resident * l.on_device() + l.ends_seconds;
  rates.other_seconds += beside / std::max(1, l.streamed());
  return rates;
}

double split_seconds_of(const Layers& l, double alpha) {
  if (l.streamed() == 0) return resident_seconds(l);
  const SplitRates rates = spread_rates(l);
  const int once = l.streamed();  // a second token's worth, so that the ring is full
  const double one = virtual_time(split_layers(rates, alpha, once, l.slots)).total;
  return virtual_time(split_layers(rates, alpha, 2 * once, l.slots)).total - one;
}

Json line_of(const Options& o, const decoder::DecoderConfig& config, const char* way, double seconds) {
  return {{"bench", "offload"},
          {"model", o.model},
          {"layers", config.num_hidden_layers},
          {"way", way},
          {"tokens_per_s", 1 / seconds},
          {"ms_per_token", seconds * 1e3}};
}

// ---- virtual time

int whole_model(const Options& o, const decoder::DecoderConfig& config) {
  const decoder::Decoder model(config);
  const at::ScalarType dtype = parse_dtype(o.dtype);
  const auto element = static_cast<double>(c10::elementSize(dtype));
  const int64_t cache = decoder::kv_cache_bytes(config, 1, o.prompt + o.tokens, dtype);
  const uint64_t memory = parse_bytes(o.memory);
  if (memory <= static_cast<uint64_t>(cache)) throw ResourceError("the cache of keys and values does not fit", "");
  const StreamPlan plan =
      plan_stream(model.params(), c10::elementSize(dtype), memory - static_cast<uint64_t>(cache), o.slots);
  Layers l{.count = plan.blocks.size(),
           .resident = static_cast<int>(std::count(plan.resident.begin(), plan.resident.end(), true)),
           .slots = o.slots};
  double in_blocks = 0;
  for (const Param& p : model.params()) {
    if (plan.blocks.of[static_cast<size_t>(p.id)] < 0) continue;
    in_blocks += element * static_cast<double>(c10::multiply_integers(p.shape));
  }
  const auto rate = [](const std::string& text) { return static_cast<double>(parse_bytes(text)); };
  l.rates = {.bytes = in_blocks / l.count,
             .cpu_rate = rate(o.cpu),
             .link_rate = rate(o.link),
             .device_rate = rate(o.device),
             .other_seconds = o.other_us * 1e-6};
  l.ends_seconds = element * static_cast<double>(config.vocab_size * config.hidden_size) / l.rates.device_rate;
  const double alpha = split_share(spread_rates(l), true);
  const std::pair<const char*, double> ways[] = {
      {"streamed", streamed_seconds(l)}, {"cpu", cpu_seconds_of(l)}, {"split", split_seconds_of(l, alpha)}};
  for (const auto& [way, seconds] : ways) {
    Json line = line_of(o, config, way, seconds);
    line["virtual"] = true;
    line["weights_gb"] = (in_blocks + element * static_cast<double>(config.vocab_size * config.hidden_size)) * 1e-9;
    line["memory_gb"] = static_cast<double>(memory) * 1e-9;
    line["resident_layers"] = l.resident;
    line["cache_gb"] = static_cast<double>(cache) * 1e-9;
    if (std::string_view(way) == "split") line["alpha"] = alpha;
    print_json(line);
  }
  return 0;
}

// ---- real lanes

/// Products of the layers cost nothing: what is left is the time beside them.
class NoProducts final : public WeightSource {
 public:
  NoProducts(WeightSource& inner, const StreamPlan& plan) : inner_(inner), plan_(plan) {}
  Tensor get(const Param& param) override { return inner_.get(param); }
  Tensor linear(const Tensor& x, const Param& weight, const Param* bias) override {
    if (plan_.blocks.of[static_cast<size_t>(weight.id)] < 0) return inner_.linear(x, weight, bias);
    auto shape = x.sizes().vec();
    shape.back() = weight.shape[0];
    return at::zeros(shape, x.options());
  }

 private:
  WeightSource& inner_;
  const StreamPlan& plan_;
};

struct Decoded {
  double seconds = 0;  ///< a token, the best of the repeats
  Tensor tokens;
};

class Workload {
 public:
  Workload(const Options& o, const decoder::Decoder& model, const Context& context)
      : options_(o), model_(model), context_(context) {}

  /// Prompt and cache are made once, by the first source.
  Decoded run(WeightSource& source) {
    const Run run{.weights = &source, .cancel = context_.cancel};
    if (cache_.length() == 0) {
      const Tensor ids = at::arange(options_.prompt, at::kLong).unsqueeze(0) + 7;
      first_ = next(run, ids);
    }
    Decoded best{.seconds = HUGE_VAL};
    for (int64_t r = 0; r <= options_.repeats; ++r) {  // the first one fills rings and is not counted
      cache_.cut(options_.prompt);
      std::vector<Tensor> tokens{first_};
      const double seconds = seconds_of([&] {
        for (int64_t i = 0; i < options_.tokens; ++i) tokens.push_back(next(run, tokens.back()));
      });
      if (r > 0) best.seconds = std::min(best.seconds, seconds / static_cast<double>(options_.tokens));
      best.tokens = at::cat(tokens, 1);
    }
    return best;
  }

 private:
  Tensor next(const Run& run, const Tensor& ids) {
    const Tensor last = model_.hidden_states(run, ids, cache_).select(1, -1);
    return model_.logits(run, last).argmax(-1, true);
  }

  const Options& options_;
  const decoder::Decoder& model_;
  const Context& context_;
  decoder::KvCache cache_;
  Tensor first_;
};

/// As many layers as a third of the free memory holds, where none are asked for: the CPU's rows are a copy.
int64_t layers_that_fit(const decoder::DecoderConfig& config, at::ScalarType dtype) {
  decoder::DecoderConfig one = config, two = config;
  one.num_hidden_layers = 1, two.num_hidden_layers = 2;
  const int64_t ends_and_one = decoder::Decoder(one).params().num_elements(),
                layer = decoder::Decoder(two).params().num_elements() - ends_and_one;
  const auto room = static_cast<int64_t>(available_memory_bytes() / 3 / c10::elementSize(dtype));
  const int64_t fit = (room - ends_and_one) / layer + 1;
  if (room < ends_and_one) throw ResourceError("not even one layer fits into a third of the free memory");
  return std::min(fit, config.num_hidden_layers);
}

int measured(const Options& o, decoder::DecoderConfig config, Context& context) {
  const at::ScalarType dtype = parse_dtype(o.dtype);
  const int64_t all = config.num_hidden_layers;
  config.num_hidden_layers = o.layers > 0 ? std::min(o.layers, all) : layers_that_fit(config, dtype);
  const decoder::Decoder model(config);
  const Params& params = model.params();
  ResidentWeights resident = random_weights(params, dtype);
  const StreamPlan plan = stream_with(params, c10::elementSize(dtype), 0, o.slots);
  const double link = static_cast<double>(parse_bytes(o.link)), cpu = static_cast<double>(parse_bytes(o.cpu));
  TensorStore tensors(resident.tensors());
  ThrottledStore store(tensors, link);
  Workload workload(o, model, context);

  const Decoded plain = workload.run(resident);
  NoProducts without(resident, plan);
  Workload beside(o, model, context);
  const double other = beside.run(without).seconds;
  // What of the time beside is the last product and the embeddings stays with the layers: it is the device's all the same.
  Layers l{.count = plan.blocks.size(), .slots = o.slots};
  l.rates = {.bytes = static_cast<double>(plan.streamed_bytes) / l.count,
             .cpu_rate = cpu,
             .link_rate = link,
             .device_rate = static_cast<double>(plan.streamed_bytes) / std::max(1e-9, plain.seconds - other),
             .other_seconds = other / l.count};

  const auto report = [&](const char* way, const Decoded& got, double predicted, Json more = Json::object()) {
    Json line = line_of(o, config, way, got.seconds);
    line["layers_of_model"] = all;
    line["streamed_gb"] = static_cast<double>(plan.streamed_bytes) * 1e-9;
    line["predicted_ms"] = predicted * 1e3;
    line["of_predicted"] = got.seconds / predicted;
    line["same_tokens"] = got.tokens.equal(plain.tokens);
    line.update(more);
    print_json(line);
  };
  report("resident", plain, resident_seconds(l),
         {{"device_gb_per_s", l.rates.device_rate * 1e-9}, {"other_ms_per_layer", l.rates.other_seconds * 1e3}});
  {
    StreamedWeights streamed(params, plan, store);
    report("streamed", workload.run(streamed), streamed_seconds(l));
  }
  const auto split = [&](const char* way, std::vector<int64_t> rows, double alpha) {
    SplitWeights weights(params, plan, std::move(rows), store, {.cpu_rate = cpu});
    const Decoded got = workload.run(weights);
    const bool is_cpu = alpha == 1;
    report(
        way, got, is_cpu ? cpu_seconds_of(l) : split_seconds_of(l, alpha),
        is_cpu ? Json::object() : Json{{"alpha", alpha}, {"law_ms", l.count * split_seconds(spread_rates(l)) * 1e3}});
  };
  std::vector<int64_t> rows;
  double of_cpu = 0;
  for (const Param& p : params) rows.push_back(p.shape[0]);
  split("cpu", rows, 1);
  const double share = split_share(l.rates, true);
  const std::vector<RingPart> parts = ring_parts(params, plan);
  for (const Param& p : params) {
    const auto i = static_cast<size_t>(p.id);
    rows[i] = parts[i].group < 0 ? 0 : std::llround(share * static_cast<double>(p.shape[0]) / 64) * 64;
    of_cpu += static_cast<double>(rows[i] * (p.shape.size() > 1 ? p.shape[1] : 1));
  }
  const double elements = static_cast<double>(plan.streamed_bytes) / static_cast<double>(c10::elementSize(dtype));
  split("split", rows, of_cpu / elements);
  if (o.has_bytes) {
    QuantisedStore bytes(to_byte_params(params, tensors));
    ThrottledStore slow(bytes, link);
    StreamedWeights streamed(params, plan, slow);
    Layers half = l;
    half.rates.link_rate *= static_cast<double>(c10::elementSize(dtype));
    report("streamed int8", workload.run(streamed), streamed_seconds(half));
  }
  return 0;
}

int bench_offload(const Options& o, Context& context) {
  use_threads(o.threads);
  const at::NoGradGuard no_grad;
  const decoder::DecoderConfig config = decoder_shape(o.model);
  if (o.prompt + o.tokens > config.max_position_embeddings) {
    throw UsageError(concat("--prompt ", o.prompt, " and --tokens ", o.tokens),
                     concat("the model has ", config.max_position_embeddings, " positions"));
  }
  for (const std::string* const rate : {&o.link, &o.cpu, &o.device}) {
    if (parse_bytes(*rate) == 0) throw UsageError("rates are above zero", "such as --link 1GB, in a second");
  }
  return o.is_virtual ? whole_model(o, config) : measured(o, config, context);
}

}  // namespace

void add_bench_offload(CLI::App& bench, Action& action) {
  auto o = std::make_shared<Options>();
  CLI::App* c = bench.add_subcommand("offload", "tokens a second with weights resident, streamed, on the CPU, split");
  c->footer(
      "Example: kinora bench offload --model opt-1.3b-shape --link 1GB --cpu 1GB --threads 1\n"
      "         kinora bench offload --model opt-30b-shape --virtual --memory 24GB --link 25GB --cpu 30GB");
  c->add_option("--model", o->model, "shape of a published model, on random weights")->capture_default_str();
  c->add_option("--layers", o->layers, "of the model; 0: as many as a third of the free memory holds")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  c->add_option("--dtype", o->dtype, "of the weights")->capture_default_str();
  c->add_option("--prompt", o->prompt, "tokens before the first step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  c->add_option("--tokens", o->tokens, "steps that are timed")->check(CLI::Range(1, 65536))->capture_default_str();
  c->add_option("--slots", o->slots, "of the ring, a layer each")->check(CLI::Range(1, 16))->capture_default_str();
  c->add_option("--link", o->link, "bytes a second to the device")->capture_default_str();
  c->add_option("--cpu", o->cpu, "bytes of weight a second that the CPU works through")->capture_default_str();
  c->add_option("--repeats", o->repeats, "of which the best counts")->check(CLI::Range(1, 1000))->capture_default_str();
  c->add_flag("--int8", o->has_bytes, "also: int8 over the link");
  c->add_flag("--virtual", o->is_virtual, "instead: the whole model, in virtual time, with");
  c->add_option("--memory", o->memory, "of the device, for weights and cache")->capture_default_str();
  c->add_option("--device-rate", o->device, "bytes of weight a second that the device works through")
      ->capture_default_str();
  c->add_option("--other-us", o->other_us, "microseconds a layer beside its products")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  add_threads(*c, o->threads);
  c->callback([o, &action] { action = [o](Context& context) { return bench_offload(*o, context); }; });
}

}  // namespace kinora::cli
