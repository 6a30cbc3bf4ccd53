#include "kinora/cli/known_classes.h"

#include "kinora/diffusion/schedulers.h"

namespace kinora::cli {
namespace {

constexpr std::string_view kGenerates = "kinora generate takes it", kPartOnly = "known, but no pipeline takes it yet";

struct KnownClass {
  std::string_view name, use;
};

constexpr KnownClass kClasses[] = {
    {"OpenSoraPipeline", kGenerates},
    {"STDiT3", kGenerates},
    {"VideoAutoencoderPipeline", kGenerates},
    {"T5EncoderModel", kGenerates},
    {"T5ForConditionalGeneration", kGenerates},
    {"t5", kGenerates},
    {"T5Tokenizer", kGenerates},
    {"T5TokenizerFast", kGenerates},
    {"MT5EncoderModel", kGenerates},
    {"mt5", kGenerates},
    {"UMT5EncoderModel", kGenerates},
    {"umt5", kGenerates},
    {"AutoencoderKL", kPartOnly},
    {"CogVideoXTransformer3DModel", kPartOnly},
    {"LatteTransformer3DModel", kPartOnly},
    {"LatteT2V", kPartOnly},
    {"WanTransformer3DModel", kPartOnly},
};

}  // namespace

std::string_view use_of(std::string_view cls) {
  for (const KnownClass& known : kClasses) {
    if (known.name == cls) return known.use;
  }
  for (const SchedulerRow& row : kSchedulers) {
    // STDiT3 predicts the velocity of RFLOW's paths; the other methods wait for their models.
    if (row.class_name == cls) return row.class_name == "RFLOW" ? kGenerates : kPartOnly;
  }
  return {};
}

std::string class_of(const Json& config) {
  if (!config.is_object()) return {};
  const auto text = [&config](const char* key) {
    const auto at = config.find(key);
    return at != config.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  if (std::string name = text("_class_name"); !name.empty()) return name;
  if (const auto at = config.find("architectures"); at != config.end() && at->is_array() && !at->empty()) {
    if (at->front().is_string()) return at->front().get<std::string>();
  }
  return text("model_type");
}

}  // namespace kinora::cli
