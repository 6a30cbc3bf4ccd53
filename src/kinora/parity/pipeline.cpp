// Runners of what lies around a model call in Open-Sora's pipeline: references, mask strategies and whole sampling loops.
#include <array>

#include "kinora/base/error.h"
#include "kinora/diffusion/rflow.h"
#include "kinora/diffusion/sampler.h"
#include "kinora/parity/pab_config.h"
#include "kinora/parity/runners.h"
#include "kinora/video/conditioning.h"
#include "kinora/video/mask_strategy.h"
#include "kinora/video/stdit3_denoiser.h"

namespace kinora::parity {
namespace {

Outputs apply_mask_strategy(const Case& c) {
  Tensor latents = c.input("z");
  std::vector<std::vector<Tensor>> references(static_cast<size_t>(latents.size(0)));
  for (size_t b = 0; b < references.size(); ++b) {
    for (size_t j = 0; c.has_input(concat("ref.", b, ".", j)); ++j)
      references[b].push_back(c.input(concat("ref.", b, ".", j)));
  }
  std::vector<std::vector<text::MaskGroup>> strategies;
  for (const Json& strategy : c.value("strategies"))
    strategies.push_back(text::parse_mask_strategy(strategy.get<std::string>()));
  const Json& align = c.value("align");
  const auto ratios = video::apply_mask_strategy(latents, references, strategies, c.value("loop").get<int64_t>(),
                                                 align.is_null() ? std::nullopt : std::optional(align.get<int64_t>()));
  Json masks = Json::array();
  for (size_t b = 0; b < references.size(); ++b) {
    const auto begin = ratios.begin() + static_cast<int64_t>(b) * latents.size(2);
    masks.push_back(std::vector<double>(begin, begin + latents.size(2)));
  }
  Outputs out;
  out.tensors["z"] = latents;
  out.values["masks"] = masks;
  return out;
}

/// A whole run with guidance: the null caption is cut to the prompt's length. noise.i is the draw of step i.
Outputs sample_rflow(const Case& c) {
  const models::STDiT3 model(models::STDiT3Config::from_json(c.config.at("model"), c.file.filename().string()));
  ResidentWeights weights = c.weights(model.params());
  Run run;
  run.weights = &weights;
  std::optional<cache::Pab> pab;
  if (const Json config = c.config.value("pab", Json()); !config.is_null())
    run.policy = &pab.emplace(pab_settings(config));
  const double height = c.value("height").get<double>(), width = c.value("width").get<double>();
  const RFlowShift shift{height, width, c.value("num_frames").get<int64_t>(), c.dtype()};
  const bool is_shifted = c.config.at("use_timestep_transform").get<bool>();
  const RFlow scheduler(c.config.at("num_sampling_steps").get<int>(), is_shifted ? &shift : nullptr);
  const int64_t kept = c.value("mask_lens").at(0).get<int64_t>();
  video::STDiT3Denoiser denoiser(model, run, {c.input("caption")[0][0].narrow(0, 0, kept)}, {},
                                 {height, width, c.value("fps").get<double>()});
  SampleOptions options;
  options.guidance_scale = c.config.at("cfg_scale").get<double>();
  if (c.has_input("mask")) options.edit_ratio = c.value("mask").get<std::vector<double>>();
  int draws = 0;
  const auto noise = [&]() -> Tensor { return c.input(concat("noise.", draws++)); };
  Outputs out;
  out.tensors["z"] = sample(denoiser, scheduler, c.input("z"), options, noise);
  Json times = Json::array(), integers = Json::array();
  for (const double t : scheduler.timesteps()) {
    times.push_back(t);
    integers.push_back(static_cast<int64_t>(t));
  }
  out.values = {{"timesteps", times}, {"int_timesteps", integers}};
  return out;
}

/// The geometry only: the resampling itself is another library's in the reference.
Outputs resize_crop_to_fill(const Case& c) {
  Json geometry = Json::array();
  for (const Json& size : c.value("sizes")) {
    const auto s = size.get<std::array<int64_t, 4>>();
    const video::FillGeometry g = video::fill_geometry(s[0], s[1], s[2], s[3]);
    geometry.push_back({g.height, g.width, g.top, g.left});
  }
  Outputs out;
  out.values["geometry"] = geometry;
  return out;
}

}  // namespace

void add_pipeline(Registry& registry) {
  registry.add("OpenSoraPipeline", "apply_mask_strategy", apply_mask_strategy);
  registry.add("data", "resize_crop_to_fill", resize_crop_to_fill);
  registry.add("RFLOW", "sample", sample_rflow);
}

}  // namespace kinora::parity
