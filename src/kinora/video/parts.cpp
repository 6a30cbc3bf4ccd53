#include "kinora/video/parts.h"

#include <algorithm>
#include <set>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/utf8.h"
#include "kinora/comm/single.h"
#include "kinora/tensor/allocator.h"
#include "kinora/video/fit.h"

namespace kinora::video {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModelClass = "STDiT3";
constexpr size_t kSampledBytes = 256;  // of each tensor, for a fingerprint

uint64_t bytes_of(const Params& params, at::ScalarType dtype) {
  return static_cast<uint64_t>(params.num_elements()) * static_cast<uint64_t>(c10::elementSize(dtype));
}

/// A whole T5 holds a decoder that nobody asks for.
std::vector<std::string> decoder_names(const fs::path& folder) {
  std::vector<std::string> names;
  const Checkpoint checkpoint(folder);
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (name.starts_with("decoder.") || name == "lm_head.weight") names.push_back(name);
  }
  return names;
}

/// Nothing where there is no such file.
std::optional<cache::Calibration> read_calibration(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  try {
    return cache::Calibration::from_json(read_json_file(file, {.max_bytes = kJsonTokenizerBytes}), file.string());
  } catch (const DataError& error) {
    throw DataError(error.what(), "remove the file: kinora calibrate makes it anew");
  }
}

}  // namespace

StreamedPart::StreamedPart(const Params& params, std::unique_ptr<offload::FileStore> store,
                           const offload::StreamPlan& plan, at::Device device,
                           const std::optional<offload::StreamPlan>& in_host)
    : files(std::move(store)),
      host(in_host ? std::make_unique<offload::HostTier>(params, *in_host, *files, device.is_cuda()) : nullptr),
      weights(params, plan, host ? static_cast<offload::WeightStore&>(host->store) : *files, {.device = device}) {}

Part::Part(const Params& parameters, const fs::path& folder, const kinora::LoadOptions& load_options)
    : params(&parameters), checkpoint(folder), options(load_options) {
  check_weights(*params, checkpoint, options);
}

WeightSource& Part::loaded(const std::optional<uint64_t>& budget) {
  const CountAs counted(MemoryKind::weights);
  if (!is_loaded() && budget) {
    const auto plan =
        offload::plan_stream(*params, c10::elementSize(options.dtype), *budget - std::min(*budget, adapter_bytes()));
    auto files = std::make_unique<offload::FileStore>(*params, checkpoint, offload::FileStoreOptions{.load = options});
    streamed = std::make_unique<StreamedPart>(*params, std::move(files), plan, options.device, plan_in_host());
  } else if (!is_loaded() && quantize) {
    offload::FileStore files(*params, checkpoint, {.load = options});
    whole = std::make_unique<offload::QuantisedWeights>(
        to_byte_params(*params, files, {.format = *quantize, .device = options.device}));
  } else if (!is_loaded()) {
    whole = std::make_unique<ResidentWeights>(load_weights(*params, checkpoint, options));
  }
  WeightSource& base = streamed ? streamed->weights : *whole;
  if (adapters.empty()) return base;
  if (!adapted) {
    std::vector<offload::Lora> loras;
    for (const PartAdapter& a : adapters) loras.push_back(read_lora(a.checkpoint, *params, a.options));
    adapted.emplace(base, std::move(loras));
  }
  return *adapted;
}

std::optional<offload::StreamPlan> Part::plan_in_host() const {
  if (!host_memory) return std::nullopt;
  return offload::plan_stream(*params, c10::elementSize(options.dtype), *host_memory);
}

void Part::let_go() {
  adapted.reset();
  whole.reset();
  streamed.reset();
}

uint64_t Part::adapter_bytes() const {
  uint64_t total = 0;
  for (const PartAdapter& a : adapters) total += a.bytes;
  return total;
}

uint32_t Part::fingerprint() const {
  uint32_t sum = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const auto bytes = tensor.bytes();
    sum = crc32(std::as_bytes(std::span(name)), sum);
    sum = crc32(bytes.subspan(bytes.size() / 2).first(std::min(kSampledBytes, bytes.size() - bytes.size() / 2)), sum);
  }
  return sum;
}

Parts::Parts(const PipelineOptions& options, ModelFolder found)
    : ranks(options.ranks ? comm::Counted(*options.ranks, traffic) : comm::Counted(comm::single(), traffic)),
      ranks_of_host(options.ranks_of_host),
      folder(std::move(found)),
      dtype(options.dtype.value_or(preferred_dtype(options.device))),
      device(options.device),
      tokenizer(text::Tokenizer::load(folder.tokenizer)),
      encoder(text::T5Config::from_json(read_json_file(folder.text_encoder / "config.json"),
                                        (folder.text_encoder / "config.json").string())),
      transformer(models::STDiT3Config::from_json(read_config(folder.transformer, "STDiT3"),
                                                  (folder.transformer / "config.json").string())),
      vae(models::VideoVaeConfig::from_json(read_config(folder.vae, "VideoAutoencoderPipeline"),
                                            (folder.vae / "config.json").string())),
      text_part(encoder.params(), folder.text_encoder, load_options(options, decoder_names(folder.text_encoder))),
      transformer_part(transformer.params(), folder.transformer, load_options(options, {})),
      vae_part(vae.params(), folder.vae, load_options(options, {})) {
  check_parts_fit();
  calibration_ = read_calibration(folder.transformer / cache::kCalibrationFile);
  if (options.quantize && options.offload.resident_blocks) {
    throw UsageError("weights that become bytes are not streamed: every call would make them anew from the files",
                     "leave out --quantize, or take --offload auto");
  }
  text_part.quantize = transformer_part.quantize = options.quantize;
  if (device.is_cpu() && options.host_memory > 0)
    throw UsageError("--host-memory is for a device that has memory of its own", "on a CPU give --memory");
  for (Part* part : {&text_part, &transformer_part}) {
    if (device.is_cpu()) continue;
    const uint64_t free = memory_room(0).bytes / static_cast<uint64_t>(ranks_of_host);
    part->host_memory = options.host_memory > 0 ? options.host_memory : free;
    if (options.host_memory > 0) part->plan_in_host();  // refused now, not when the part is read
  }
  const auto own_bytes = [&](const Params& params) {
    if (!options.quantize) return bytes_of(params, dtype);
    return static_cast<uint64_t>(offload::shape_of_byte_params(params, dtype, *options.quantize).num_bytes());
  };
  sizes = {.transformer = transformer.config(),
           .vae = vae.config(),
           .text_encoder = encoder.config(),
           .transformer_bytes = own_bytes(transformer.params()),
           .vae_bytes = bytes_of(vae.params(), dtype),
           .text_bytes = own_bytes(encoder.params()),
           .element_bytes = static_cast<uint64_t>(c10::elementSize(dtype)),
           .device = device,
           .streamed = options.quantize ? std::nullopt
                                        : streamed_sizes(options.offload, encoder.params(), transformer.params(),
                                                         c10::elementSize(dtype)),
           .quantize = options.quantize};
  for (const Adapter& adapter : options.adapters) add(adapter);
}

void Parts::add(const Adapter& adapter) {
  const Checkpoint checkpoint(adapter.path);
  const auto read_for = [&](Part& part, const Part& other) {
    const offload::LoraOptions how{
        .dtype = dtype, .device = device, .strength = adapter.strength, .beside = other.params};
    offload::Lora lora = read_lora(checkpoint, *part.params, how);
    if (!lora.empty() && adapter.strength != 0) part.adapters.push_back({checkpoint, how, num_bytes(lora)});
    return lora;
  };
  const offload::Lora of_text = read_for(text_part, transformer_part), of_rows = read_for(transformer_part, text_part);
  adapters.push_back({{"name", (adapter.path / "").parent_path().filename().string()},
                      {"strength", adapter.strength},
                      {"crc32", fingerprint(of_rows, fingerprint(of_text))}});
  if (adapter.strength == 0) return;
  const uint64_t text_bytes = num_bytes(of_text), row_bytes = num_bytes(of_rows);
  sizes.text_bytes += text_bytes, sizes.transformer_bytes += row_bytes;
  if (sizes.streamed) sizes.streamed->text_bytes += text_bytes, sizes.streamed->transformer_bytes += row_bytes;
  for (const auto& [id, pair] : of_rows) {
    int64_t& rank = sizes.adapter_ranks[transformer.params()[id].name];
    rank = std::max(rank, pair.a.size(0));
  }
}

bool Parts::is_of_these_weights(const cache::Calibration& calibration) const {
  return calibration.model == kModelClass && calibration.weights == transformer_part.fingerprint();
}

const cache::Calibration* Parts::calibration() const {
  if (!calibration_) return nullptr;
  if (is_of_these_weights(*calibration_)) return &*calibration_;
  throw UsageError(
      concat("'", (folder.transformer / cache::kCalibrationFile).string(), "' was measured on other weights"),
      "kinora calibrate measures these; or remove the file");
}

void Parts::put_calibration(cache::CalibratedRun run) {
  if (!calibration_ || !is_of_these_weights(*calibration_))
    calibration_ = cache::Calibration{.model = kModelClass, .weights = transformer_part.fingerprint(), .runs = {}};
  calibration_->put(std::move(run));
}

kinora::LoadOptions Parts::load_options(const PipelineOptions& options, std::vector<std::string> surplus) const {
  return {.dtype = dtype, .device = device, .prefix = {}, .surplus = std::move(surplus), .ledger = options.ledger};
}

void Parts::check_parts_fit() const {
  const auto refuse = [](const char* what, int64_t a, int64_t b) {
    throw DataError(concat("the parts are not of one model: ", what, " ", a, " and ", b),
                    "take all parts from the same release");
  };
  // STDiT3 predicts data - noise along straight paths; another method would make nothing of it, without an error.
  if (folder.scheduler != "RFLOW") {
    throw UsageError(concat("the scheduler \"", printable(folder.scheduler), "\" does not fit STDiT3"),
                     "OpenSoraPipeline works with RFLOW");
  }
  const auto& pictures = vae.config().spatial;
  if (pictures.in_channels != 3 || pictures.out_channels != 3) {
    throw DataError(
        concat("the autoencoder takes ", pictures.in_channels, " channels and gives ", pictures.out_channels),
        "a model of RGB pictures has 3 and 3");
  }
  const auto& config = transformer.config();
  if (config.caption_channels != encoder.config().d_model)
    refuse("caption width of the transformer and the text encoder", config.caption_channels, encoder.config().d_model);
  if (config.in_channels != vae.latent_channels())
    refuse("latent channels of the transformer and the autoencoder", config.in_channels, vae.latent_channels());
  if (tokenizer.vocab_size() > encoder.config().vocab_size)
    refuse("vocabulary of the tokenizer and the text encoder", tokenizer.vocab_size(), encoder.config().vocab_size);
}

WeightSource& Parts::loaded(Part& part, const Hooks& hooks, const std::optional<uint64_t>& budget) {
  if (part.is_loaded()) return part.loaded(budget);
  if (hooks.cancel.stop_requested()) throw CancelledError();
  if (hooks.on_progress) hooks.on_progress(Stage::load, 0, 1);
  WeightSource& weights = part.loaded(budget);
  if (hooks.on_progress) hooks.on_progress(Stage::load, 1, 1);
  if (hooks.cancel.stop_requested()) throw CancelledError();
  return weights;
}

void Parts::keep_only(const Part* kept) {
  for (Part* part : {&text_part, &transformer_part, &vae_part}) {
    if (part != kept) part->let_go();
  }
}

void Parts::warn_of_long_texts(const Plan& plan) const {
  const int64_t most = transformer.config().model_max_length;
  std::set<std::string> texts;
  for (const text::PromptSegments& segments : plan.texts) texts.insert(segments.texts.begin(), segments.texts.end());
  if (plan.negative_text && plan.is_guided()) texts.insert(*plan.negative_text);
  for (const std::string& text : texts) {
    const auto tokens = static_cast<int64_t>(tokenizer.encode(text).ids.size());
    if (tokens > most)
      log_warn(concat("the prompt \"", printable(text, 40), "\" has ", tokens, " tokens; the model reads ", most,
                      ", the last ", tokens - most, " are dropped"));
  }
}

}  // namespace kinora::video
