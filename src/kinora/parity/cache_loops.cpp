// Runners of diffusers' step caches: whole sampling loops on tiny models, the guidance branches in one call (uncond first).
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "kinora/base/error.h"
#include "kinora/cache/pab.h"
#include "kinora/cache/registry.h"
#include "kinora/diffusion/schedulers.h"
#include "kinora/models/cogvideox/transformer.h"
#include "kinora/models/latte/transformer.h"
#include "kinora/parity/rope.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {
namespace {

constexpr Branch kGuided[] = {Branch::uncond, Branch::cond}, kAlone[] = {Branch::cond};

/// The case's model, called with every branch's rows at once.
class Model final : public Denoiser {
 public:
  Model(const Case& c, Policy* policy) : text_(c.input("text")) {
    const Json& model = c.config.at("model");
    const std::string cls = model.at("cls").get<std::string>();
    if (cls == "LatteTransformer3DModel") {
      latte_.emplace(models::latte::LatteConfig::from_json(model.at("config"), cls));
      weights_.emplace(c.weights(latte_->params()));
    } else if (cls == "CogVideoXTransformer3DModel") {
      cogvideox_.emplace(models::cogvideox::CogVideoXConfig::from_json(model.at("config"), cls));
      weights_.emplace(c.weights(cogvideox_->params()));
      if (c.call.contains("rope")) rotary_ = rotary_of(c.call.at("rope").at("args"));
    } else {
      throw NotInThisBuild(concat("loops of ", cls));
    }
    run_.weights = &*weights_;
    run_.policy = policy;
  }

  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override {
    Run run = run_;
    run.step = step, run.rows = wanted;
    const auto branches = static_cast<int64_t>(wanted.size());
    const Tensor x = latents.repeat({branches, 1, 1, 1, 1});
    const Tensor time = at::full({x.size(0)}, step.timestep, x.options());
    Tensor out;
    if (latte_) {
      out = latte_->forward(run, {.hidden_states = x, .timestep = time, .encoder_hidden_states = text_});
      out = out.narrow(1, 0, x.size(1));
    } else {
      out = cogvideox_->forward(
          run, {.hidden_states = x, .encoder_hidden_states = text_, .timestep = time, .rotary = rotary_});
    }
    return out.split(latents.size(0), 0);
  }

 private:
  Tensor text_;
  std::optional<models::latte::LatteTransformer> latte_;
  std::optional<models::cogvideox::CogVideoXTransformer> cogvideox_;
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

/// The settings of a method that goes by its text.
std::string text_of(const std::string& cls, const Json& config) {
  const auto number = [&](const char* key) { return config.at(key).dump(); };
  if (cls == "FirstBlockCacheConfig") return concat("first-block:threshold=", number("threshold"));
  if (cls == "MagCacheConfig") {
    if (config.value("calibrate", false)) throw NotInThisBuild("the calibration of MagCache");
    std::string ratios;
    for (const Json& r : config.at("mag_ratios")) ratios += concat(ratios.empty() ? "" : "+", r.dump());
    return concat("mag:threshold=", number("threshold"), ",skips=", number("max_skip_steps"),
                  ",retention=", number("retention_ratio"), ",ratios=", ratios);
  }
  if (cls == "TaylorSeerCacheConfig") {
    std::string text =
        concat("taylor:interval=", number("cache_interval"), ",first=", number("disable_cache_before_step"),
               ",order=", number("max_order"), ",point=module");
    if (config.at("taylor_factors_dtype") != "float64")
      text += concat(",keep=", config.at("taylor_factors_dtype").get<std::string>());
    if (config.value("use_lite_mode", false)) return text;
    const std::string names = config.at("cache_identifiers").dump();
    text += ",sites=full+spatial+temporal";
    if (names.find("attn2") != std::string::npos) text += "+cross";
    if (names.find("ff") != std::string::npos) text += "+mlp";
    return text;
  }
  throw NotInThisBuild(cls);
}

/// What the reference's hooks log, out of the decisions: for each of its modules a digit a call, 1 where it computed.
struct Log {
  std::map<std::string, std::string> sites;  // by path
  std::string whole;                         // of the loop over blocks, or of the call
  Json changes = Json::array();

  void note(const cache::Decision& d) {
    (d.what == "blocks" || d.what == "call" ? whole : sites[std::string(d.path)]) += d.reused ? '0' : '1';
    changes.push_back(std::isfinite(d.change) ? Json(d.change) : Json());
  }
  Json results(const Json& wanted, bool first_block_runs) const {
    Json computed = Json::array();
    for (size_t i = 0; i < wanted.at("modules").size(); ++i) {
      const auto site = sites.find(wanted.at("modules").at(i).get<std::string>());
      if (!whole.empty())
        computed.push_back(i == 0 && first_block_runs ? std::string(whole.size(), '1') : whole);
      else
        computed.push_back(site == sites.end() ? std::string() : site->second);
    }
    Json out = {{"modules", wanted.at("modules")}, {"computed", computed}};
    if (wanted.contains("diff")) out["diff"] = changes;
    return out;
  }
};

Tensor follow(const Case& c, const Scheduler& scheduler, cache::Method* method, std::vector<Tensor>* steps) {
  Model model(c, method);
  std::optional<cache::CachedDenoiser> cached;
  if (method) cached.emplace(model, *method);
  Denoiser& denoiser = cached ? static_cast<Denoiser&>(*cached) : model;
  const Json& guidance = c.config.at("guidance");
  const auto times = scheduler.timesteps();
  Tensor x = c.input("latents");
  Trajectory trajectory;
  const auto no_noise = []() -> Tensor { throw std::logic_error("a scheduler of these cases draws no noise"); };
  for (size_t call = 0; call < times.size(); ++call) {
    const Step step{.call = static_cast<int>(call),
                    .calls = static_cast<int>(times.size()),
                    .timestep = times[call],
                    .schedule = times};
    Tensor prediction;
    if (guidance.is_null()) {
      prediction = denoiser.predict(x, step, kAlone)[0];
    } else {
      const auto both = denoiser.predict(x, step, kGuided);
      prediction = both[0] + guidance.get<double>() * (both[1] - both[0]);
    }
    x = scheduler.step(trajectory, prediction, x, no_noise);
    if (steps) steps->push_back(x);
  }
  return x;
}

Outputs loop(const Case& c) {
  if (c.call.at("loop") != "batched") throw NotInThisBuild("branches in calls of their own");
  const Json& s = c.config.at("scheduler");
  const auto has_class = [&](const SchedulerRow& row) { return s.at("cls") == row.class_name; };
  if (std::none_of(std::begin(kSchedulers), std::end(kSchedulers), has_class))
    throw NotInThisBuild(s.at("cls").get<std::string>());
  const auto scheduler =
      make_scheduler(s.at("cls").get<std::string>(), s.at("config"), static_cast<int>(s.at("steps").get<int64_t>()));
  const auto times = scheduler->timesteps();
  std::unique_ptr<cache::Method> method;
  const Json& cached = c.config.at("cache");
  if (!cached.is_null()) {
    const std::string cls = cached.at("cls").get<std::string>();
    if (cls == "PyramidAttentionBroadcastConfig")
      method = std::make_unique<cache::Pab>(
          pab_of(cached.at("config")),
          cache::Context{.model = "", .sites = {}, .schedule = {times.begin(), times.end()}, .steps = 0});
    else
      method = cache::make_method(text_of(cls, cached.at("config")),
                                  {.model = c.config.at("model").at("cls").get<std::string>()});
  }
  Log log;
  if (method) method->on_decision = [&](const cache::Decision& d) { log.note(d); };
  Outputs out;
  std::vector<Tensor> steps;
  out.tensors["latents"] = follow(c, *scheduler, method.get(), &steps);
  out.tensors["steps"] = at::stack(steps);
  out.tensors["reference"] = follow(c, *scheduler, nullptr, nullptr);
  if (method && !c.results.is_null()) out.results = log.results(c.results, c.cls == "FirstBlockCacheConfig");
  return out;
}

}  // namespace

void add_cache_loops(Registry& registry) {
  for (const char* cls : {"PyramidAttentionBroadcastConfig", "FirstBlockCacheConfig", "MagCacheConfig",
                          "TaylorSeerCacheConfig", "LatteTransformer3DModel", "CogVideoXTransformer3DModel"})
    registry.add(cls, "loop", loop);
}

}  // namespace kinora::parity
