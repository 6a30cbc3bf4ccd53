// Runners of diffusers' step caches: whole sampling loops on tiny models, the guidance branches in one call (uncond first) or
// in calls of their own (cond first).
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/cache/pab.h"
#include "kinora/cache/registry.h"
#include "kinora/diffusion/schedulers.h"
#include "kinora/models/cogvideox/transformer.h"
#include "kinora/models/latte/transformer.h"
#include "kinora/models/wan/transformer.h"
#include "kinora/parity/rope.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {
namespace {

constexpr Branch kGuided[] = {Branch::uncond, Branch::cond}, kCond[] = {Branch::cond}, kUncond[] = {Branch::uncond};

bool is_separate(const Case& c) { return c.call.at("loop") == "separate"; }
bool is_guided(const Case& c) { return !c.config.at("guidance").is_null(); }

/// What the reference's hooks take a call for, where that is not what it is.
using View = std::function<void(Run&)>;

/// The case's model.
class Model final : public Denoiser {
 public:
  Model(const Case& c, Policy* policy, View view = {}) : view_(std::move(view)) {
    if (is_separate(c)) {
      texts_[Branch::cond] = c.input("text");
      if (is_guided(c)) texts_[Branch::uncond] = c.input("text_uncond");
    } else {
      const auto parts = c.input("text").chunk(is_guided(c) ? 2 : 1);
      texts_[Branch::cond] = parts.back();
      if (is_guided(c)) texts_[Branch::uncond] = parts.front();
    }
    const Json& model = c.config.at("model");
    const std::string cls = model.at("cls").get<std::string>();
    if (cls == "LatteTransformer3DModel") {
      latte_.emplace(models::latte::LatteConfig::from_json(model.at("config"), cls));
      weights_.emplace(c.weights(latte_->params()));
    } else if (cls == "CogVideoXTransformer3DModel") {
      cogvideox_.emplace(models::cogvideox::CogVideoXConfig::from_json(model.at("config"), cls));
      weights_.emplace(c.weights(cogvideox_->params()));
      if (c.call.contains("rope")) rotary_ = rotary_of(c.call.at("rope").at("args"));
    } else if (cls == "WanTransformer3DModel") {
      wan_.emplace(models::wan::WanConfig::from_json(model.at("config"), cls));
      weights_.emplace(c.weights(wan_->params()));
    } else {
      throw NotInThisBuild(concat("loops of ", cls));
    }
    run_.weights = &*weights_;
    run_.policy = policy;
  }

  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override {
    Run run = run_;
    run.step = step, run.rows = wanted;
    if (view_) view_(run);
    std::vector<Tensor> texts;
    for (const Branch branch : wanted) texts.push_back(texts_.at(branch));
    const Tensor x = latents.repeat({static_cast<int64_t>(wanted.size()), 1, 1, 1, 1}), text = at::cat(texts);
    const Tensor time = at::full({x.size(0)}, step.timestep, x.options());
    rows_.push_back(x.size(0));
    Tensor out;
    if (latte_) {
      out = latte_->forward(run, {.hidden_states = x, .timestep = time, .encoder_hidden_states = text});
      out = out.narrow(1, 0, x.size(1));
    } else if (wan_) {
      out = wan_->forward(run, {.hidden_states = x, .encoder_hidden_states = text, .timestep = time});
    } else {
      out = cogvideox_->forward(
          run, {.hidden_states = x, .encoder_hidden_states = text, .timestep = time, .rotary = rotary_});
    }
    return out.split(latents.size(0), 0);
  }

  /// Of each call.
  const std::vector<int64_t>& rows() const { return rows_; }

 private:
  View view_;
  std::map<Branch, Tensor> texts_;
  std::vector<int64_t> rows_;
  std::optional<models::latte::LatteTransformer> latte_;
  std::optional<models::cogvideox::CogVideoXTransformer> cogvideox_;
  std::optional<models::wan::WanTransformer> wan_;
  models::RotaryTable rotary_;
  std::optional<ResidentWeights> weights_;
  Run run_;
};

cache::PabSettings pab_of(const Json& config) {
  cache::PabSettings settings;
  const auto rule = [&](const std::string& kind) -> std::optional<cache::PabRule> {
    const std::string range = kind + "_attention_block_skip_range", window = kind + "_attention_timestep_skip_range";
    if (!config.contains(range)) return std::nullopt;
    const auto limits = config.value(window, std::vector<double>{100, 800});
    return cache::PabRule{.range = config.at(range).get<int64_t>(),
                          .low = limits.at(0),
                          .high = limits.at(1),
                          .point = Point::module,
                          .is_whole = false};
  };
  if (const auto r = rule("temporal")) settings.attention[Kind::temporal] = *r;
  if (const auto r = rule("cross")) settings.attention[Kind::cross] = *r;
  if (const auto r = rule("spatial")) {
    settings.attention[Kind::spatial] = settings.attention[Kind::full] = *r;
    // The reference looks for its default names anywhere in a path, and "transformer_blocks" is in the temporal ones.
    if (!config.contains("spatial_attention_block_identifiers")) settings.attention[Kind::temporal] = *r;
  }
  return settings;
}

std::string faster_text(const Json& config, const std::string& model) {
  const auto range = [&](const char* key, const char* fallback) {
    return config.contains(key) ? config.at(key).dump() : std::string(fallback);
  };
  const auto window = [&](const std::string& of, std::vector<double> fallback) {
    const auto ends = config.value(of + "_range", std::move(fallback));
    return concat(ends.at(0), "..", ends.at(1));
  };
  const std::string spatial = range("spatial_attention_block_skip_range", "2");
  const bool is_distilled = config.value("is_guidance_distilled", false);
  return concat("faster:", model == "LatteTransformer3DModel" ? concat("spatial=", spatial) : concat("full=", spatial),
                model == "LatteTransformer3DModel"
                    ? concat(",temporal=", range("temporal_attention_block_skip_range", "off"))
                    : std::string(),
                ",window=", window("spatial_attention_timestep_skip", {-1, 681}),
                ",weight=", config.value("attention_weight", 0.5),
                ",uncond=", is_distilled ? std::string("off") : range("unconditional_batch_skip_range", "5"),
                ",uncond_window=", window("unconditional_batch_timestep_skip", {-1, 641}),
                ",low=", config.value("alpha_low_frequency", 1.1),
                ",low_window=", window("low_frequency_weight_update_timestep", {99, 901}),
                ",high=", config.value("alpha_high_frequency", 1.1),
                ",high_window=", window("high_frequency_weight_update_timestep", {-1, 301}));
}

/// The settings of a method that goes by its text.
std::string text_of(const std::string& cls, const Json& config, const std::string& model) {
  const auto number = [&](const char* key) { return config.at(key).dump(); };
  if (cls == "FirstBlockCacheConfig") return concat("first-block:threshold=", number("threshold"));
  if (cls == "FasterCacheConfig") return faster_text(config, model);
  if (cls == "MagCacheConfig") {
    if (config.value("calibrate", false)) return "mag:calibrate=on";
    std::string ratios;
    for (const Json& r : config.at("mag_ratios")) ratios += concat(ratios.empty() ? "" : "+", r.dump());
    return concat("mag:threshold=", number("threshold"), ",skips=", number("max_skip_steps"),
                  ",retention=", number("retention_ratio"), ",ratios=", ratios);
  }
  if (cls == "TaylorSeerCacheConfig") {
    std::string text = concat("taylor:interval=", number("cache_interval"),
                              ",first=", number("disable_cache_before_step"), ",order=", config.value("max_order", 1),
                              ",last=", config.value("disable_cache_after_step", -1), ",point=module");
    if (config.at("taylor_factors_dtype") != "float64")
      text += concat(",keep=", config.at("taylor_factors_dtype").get<std::string>());
    // Blocks that are passed over, and the last projection extrapolated: the output as a whole.
    if (config.value("use_lite_mode", false) || config.contains("skip_predict_identifiers")) return text;
    if (!config.contains("cache_identifiers"))
      return "none";  // the reference's defaults match no module of these models
    const std::string names = config.at("cache_identifiers").dump();
    const auto has = [&](const char* name) { return names.find(name) != std::string::npos; };
    text += ",sites=full+spatial+temporal";
    if (has("attn2") || has(R"(attn\\d)")) text += "+cross";
    if (has("ff")) text += "+mlp";
    return text;
  }
  throw NotInThisBuild(cls);
}

/// What the reference's hooks log, out of the decisions: for each of its modules a digit a call, 1 where it computed.
struct Log {
  std::map<std::string, std::string> sites;  // by path
  std::string whole;                         // of the loop over blocks, or of the call
  std::vector<double> changes;

  void note(const cache::Decision& d) {
    if (d.what == "uncond") return;  // that is in the number of rows
    (d.what == "blocks" || d.what == "call" ? whole : sites[std::string(d.path)]) += d.reused ? '0' : '1';
    changes.push_back(d.change);
  }
  Json results(const Case& c, const std::vector<int64_t>& rows) const {
    const Json& wanted = c.results;
    Json out = Json::object();
    if (wanted.contains("modules")) {
      const bool first_block_runs = c.cls == "FirstBlockCacheConfig";
      Json computed = Json::array();
      for (size_t i = 0; i < wanted.at("modules").size(); ++i) {
        const auto site = sites.find(wanted.at("modules").at(i).get<std::string>());
        if (!whole.empty())
          computed.push_back(i == 0 && first_block_runs ? std::string(whole.size(), '1') : whole);
        else
          computed.push_back(site == sites.end() ? std::string() : site->second);
      }
      out["modules"] = wanted.at("modules"), out["computed"] = computed;
    }
    if (wanted.contains("batch")) out["batch"] = rows;
    for (size_t call = 0; call < changes.size(); ++call) {
      const double change = changes[call];
      if (wanted.contains("diff")) out["diff"].push_back(std::isfinite(change) ? Json(change) : Json());
      const char* const branch = !is_separate(c) ? "cond_uncond" : is_guided(c) && call % 2 == 1 ? "uncond" : "cond";
      if (wanted.contains("calibration")) out["calibration"].push_back({branch, change});
    }
    return out;
  }
};

View view_of(const Case& c, const Log& log) {
  const bool has_two_calls = is_separate(c) && is_guided(c);
  // Those of PAB do not tell the branches apart: calls for both are calls for one.
  if (c.cls == "PyramidAttentionBroadcastConfig" && has_two_calls) {
    return [count = 0, both = std::vector<double>()](Run& run) mutable {
      if (both.empty()) {
        for (const double t : run.step.schedule) both.insert(both.end(), {t, t});
      }
      run.rows = kCond;
      run.step.call = count++, run.step.calls *= 2, run.step.schedule = both;
    };
  }
  // Around a single block those of MagCache do not count the calls that they skip.
  if (c.cls == "MagCacheConfig" && c.config.at("model").at("config").value("num_layers", 0) == 1) {
    return [&log, stride = size_t{has_two_calls ? 2u : 1u}](Run& run) {
      run.step.call = 0;
      for (size_t i = log.whole.size() % stride; i < log.whole.size(); i += stride)
        run.step.call += log.whole[i] == '1';
    };
  }
  return {};
}

/// The latents after each step.
std::vector<Tensor> follow(const Case& c, const Scheduler& scheduler, Model& model, cache::Method* method) {
  std::optional<cache::CachedDenoiser> cached;
  if (method) cached.emplace(model, *method);
  Denoiser& denoiser = cached ? static_cast<Denoiser&>(*cached) : model;
  const auto times = scheduler.timesteps();
  std::vector<Tensor> steps{c.input("latents")};
  Trajectory trajectory;
  const auto no_noise = []() -> Tensor { throw std::logic_error("a scheduler of these cases draws no noise"); };
  for (size_t call = 0; call < times.size(); ++call) {
    const Tensor x = steps.back();
    const Step step{.call = static_cast<int>(call),
                    .calls = static_cast<int>(times.size()),
                    .timestep = times[call],
                    .schedule = times};
    Tensor prediction;
    if (!is_guided(c)) {
      prediction = denoiser.predict(x, step, kCond)[0];
    } else {
      Tensor cond, uncond;
      if (is_separate(c)) {
        cond = denoiser.predict(x, step, kCond)[0];
        uncond = denoiser.predict(x, step, kUncond)[0];
      } else {
        const auto both = denoiser.predict(x, step, kGuided);
        uncond = both[0], cond = both[1];
      }
      prediction = uncond + c.config.at("guidance").get<double>() * (cond - uncond);
    }
    steps.push_back(scheduler.step(trajectory, prediction, x, no_noise));
  }
  steps.erase(steps.begin());
  return steps;
}

std::unique_ptr<cache::Method> method_of(const Case& c, std::span<const double> times) {
  const Json& cached = c.config.at("cache");
  if (cached.is_null()) return nullptr;
  cache::Context context{.model = c.config.at("model").at("cls").get<std::string>(),
                         .sites = {},
                         .schedule = {times.begin(), times.end()},
                         .guidance_scale = is_guided(c) ? c.config.at("guidance").get<double>() : 1};
  for (const Kind kind : {Kind::spatial, Kind::temporal, Kind::full, Kind::cross, Kind::mlp}) context.sites[kind] = 1;
  const std::string cls = cached.at("cls").get<std::string>();
  if (cls == "PyramidAttentionBroadcastConfig")
    return std::make_unique<cache::Pab>(pab_of(cached.at("config")), context);
  return cache::make_method(text_of(cls, cached.at("config"), context.model), context);
}

Outputs loop(const Case& c) {
  const Json& s = c.config.at("scheduler");
  const auto scheduler =
      make_scheduler(s.at("cls").get<std::string>(), s.at("config"), static_cast<int>(s.at("steps").get<int64_t>()));
  const auto method = method_of(c, scheduler->timesteps());
  Log log;
  if (method) method->on_decision = [&](const cache::Decision& d) { log.note(d); };
  Model model(c, method.get(), view_of(c, log)), plain(c, nullptr);
  Outputs out;
  const auto steps = follow(c, *scheduler, model, method.get());
  out.tensors["latents"] = steps.back();
  out.tensors["steps"] = at::stack(steps);
  out.tensors["reference"] = follow(c, *scheduler, plain, nullptr).back();
  out.results = log.results(c, model.rows());
  return out;
}

}  // namespace

void add_cache_loops(Registry& registry) {
  for (const char* cls :
       {"PyramidAttentionBroadcastConfig", "FirstBlockCacheConfig", "FasterCacheConfig", "MagCacheConfig",
        "TaylorSeerCacheConfig", "LatteTransformer3DModel", "CogVideoXTransformer3DModel", "WanTransformer3DModel"})
    registry.add(cls, "loop", loop);
}

}  // namespace kinora::parity
