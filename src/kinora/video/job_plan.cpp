// A plan as JSON and back: what a clip's metadata and a job hold of it.
#include <algorithm>
#include <limits>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/base/utf8.h"
#include "kinora/video/stages.h"

namespace kinora::video {
namespace {

constexpr int64_t kMost = int64_t{1} << 20;

Json of_file(const ReferencePtr& clip) {
  return {{"name", clip->name}, {"frames", clip->frames.frames}, {"crc32", fingerprint(clip->frames)}};
}

Json of_span(const Span& span) { return {{"frames", span.frames}, {"latents", span.latents}}; }

Span span_in(const JsonObject& object, const char* key) {
  if (!object.has(key)) return {};
  const JsonObject span = object.require_object(key);
  return {span.require_int("frames", 0, kMost), span.require_int("latents", 0, kMost)};
}

/// The clip that the job was made with: its frames are part of the result.
ReferencePtr file_in(const JsonObject& object, const char* key) {
  if (!object.has(key)) return nullptr;
  const JsonObject file = object.require_object(key);
  const std::string name = file.require_string("name");
  ReferencePtr clip = load_reference(name);
  if (fingerprint(clip->frames) != file.require_int("crc32", 0))
    throw UsageError(concat("'", printable(name, 200), "' is not what it was when the latents were made"),
                     "put the old file in its place");
  return clip;
}

Json of_strategy(const std::vector<text::MaskGroup>& strategy) {
  Json out = Json::array();
  for (const text::MaskGroup& g : strategy)
    out.push_back({g.loop, g.reference, g.reference_start, g.target_start, g.length, g.edit_ratio});
  return out;
}

/// Is left out where a clip is made from its prompt alone, step by step.
void add_ways(const Plan& plan, Json& out) {
  if (plan.loops > 1) out["loops"] = plan.loops;
  if (plan.seamless) out["seamless"] = true;
  if (plan.before) out["before"] = of_file(plan.before);
  if (plan.after) out["after"] = of_file(plan.after);
  if (plan.head.frames > 0) out["head"] = of_span(plan.head);
  if (plan.tail.frames > 0) out["tail"] = of_span(plan.tail);
  if (plan.condition_edit > 0) out["condition_edit"] = plan.condition_edit;
  if (plan.cache != "none") out["cache"] = plan.cache;
  if (plan.cache_memory > 0) out["cache_memory"] = plan.cache_memory;
  if (plan.quantize != "none") out["quantize"] = plan.quantize;
  if (!plan.adapters.empty()) out["lora"] = plan.adapters;
}

Json of_given(const Given& given) {
  Json files = Json::array();
  for (const ReferencePtr& reference : given.references) files.push_back(of_file(reference));
  return {{"references", files}, {"mask_strategy", of_strategy(given.strategy)}};
}

}  // namespace

void check_job(const Job& job, const Work& work) {
  const auto damaged = [](const std::string& what) {
    throw DataError("the job does not fit the clip: " + what, "begin anew, or give the job of this request");
  };
  const auto& vae = work.parts.vae;
  const auto [t, h, w] = vae.latent_size({work.plan.num_frames, work.plan.height, work.plan.width});
  if (static_cast<int64_t>(job.latents.size()) != work.clips())
    damaged(concat("it is of ", job.latents.size(), " clips, not ", work.clips()));
  for (const Tensor& latents : job.latents) {
    if (!latents.defined()) continue;
    const bool fits = latents.size(0) == vae.latent_channels() && latents.size(1) % t == 0 && latents.size(2) == h &&
                      latents.size(3) == w && latents.size(1) <= work.plan.passes() * t &&
                      (!job.is_denoised || latents.size(1) == work.plan.passes() * t);
    if (!fits)
      damaged(concat("latents of ", latents.sizes(), " for ", work.plan.passes(), " times [", vae.latent_channels(),
                     ", ", t, ", ", h, ", ", w, "]"));
  }
  if (!job.state.latents.defined()) return;
  const int64_t count = std::min(job.batch, work.clips() - job.first);
  const std::vector<int64_t> shape{count, vae.latent_channels(), t, h, w};
  bool fits = job.first % job.batch == 0 && job.state.latents.sizes() == shape &&
              static_cast<int64_t>(job.generators.size()) == count && job.pass < work.plan.passes();
  for (int64_t i = job.first; fits && i < job.first + count; ++i)
    fits = (job.latents[i].defined() ? job.latents[i].size(1) : 0) == job.pass * t;
  if (!fits) damaged(concat("a group with latents of ", job.state.latents.sizes()));
}

Json Pipeline::settings(const Plan& plan) const {
  const Parts& parts = *parts_;
  Json texts = Json::array();
  for (const text::PromptSegments& segments : plan.texts) texts.push_back(segments.merge());
  Json out = {{"model", parts.folder.name},
              {"weights",
               {{"transformer", parts.transformer_part.fingerprint()},
                {"text_encoder", parts.text_part.fingerprint()},
                {"vae", parts.vae_part.fingerprint()}}},
              {"dtype", c10::toString(parts.dtype)},
              {"scheduler", parts.folder.scheduler},
              {"scheduler_config", parts.folder.scheduler_config},
              {"prompts", plan.prompts},
              {"texts", texts},
              {"height", plan.height},
              {"width", plan.width},
              {"num_frames", plan.num_frames},
              {"steps", plan.steps},
              {"guidance_scale", plan.guidance_scale},
              {"fps", plan.fps},
              {"seed", plan.seed}};
  if (plan.negative_text) out["negative_prompt"] = *plan.negative_text;
  add_ways(plan, out);
  Json given = Json::array();
  bool is_any = false;
  for (const Given& g : plan.given) {
    given.push_back(of_given(g));
    is_any = is_any || !g.references.empty();
  }
  if (is_any) out["given"] = given;
  return out;
}

media::Metadata Pipeline::metadata(const Plan& plan, int64_t index) const {
  Json settings = {{"height", plan.height},
                   {"width", plan.width},
                   {"num_frames", plan.num_frames},
                   {"steps", plan.steps},
                   {"guidance_scale", plan.guidance_scale},
                   {"fps", plan.fps},
                   {"dtype", c10::toString(parts_->dtype)},
                   {"scheduler", parts_->folder.scheduler},
                   {"text", plan.texts.at(index).merge()}};
  if (plan.negative_text) settings["negative_prompt"] = *plan.negative_text;
  add_ways(plan, settings);
  const Given& given = plan.given.at(index);
  if (!given.references.empty()) settings.update(of_given(given));
  media::Metadata m;
  m.prompt = plan.prompts.at(index);
  m.model = parts_->folder.name;
  m.seed = plan.seed + static_cast<uint64_t>(index);
  m.settings = settings.dump(-1, ' ', true, Json::error_handler_t::replace);
  m.frames = plan.total_frames();  // a writer of streams does not know how many will come
  return m;
}

Plan Pipeline::plan(const Job& job, uint64_t memory) const {
  if (!job.is_denoised)
    throw DataError("the job is not denoised yet", "go on with it: --resume with the options that it began with");
  const JsonObject s(job.settings, "the job's settings");
  Plan plan{};
  plan.is_decode_only = true;
  plan.prompts = s.require_strings("prompts");
  for (const std::string& text : s.require_strings("texts")) plan.texts.push_back(text::PromptSegments::split(text));
  if (s.has("negative_prompt")) plan.negative_text = s.require_string("negative_prompt");
  plan.height = s.require_int("height", parts_->vae.downscale(), kMost);
  plan.width = s.require_int("width", parts_->vae.downscale(), kMost);
  plan.num_frames = s.require_int("num_frames", 1, kMost), plan.steps = s.require_int("steps", 1, kMost);
  plan.guidance_scale = s.require_number("guidance_scale"), plan.fps = s.require_number("fps");
  const Json* seed = s.find("seed");
  if (!seed || !seed->is_number_unsigned())
    throw DataError("the job's settings: seed is no number", "the job is damaged");
  plan.seed = seed->get<uint64_t>();
  plan.batch = job.batch;
  plan.given.resize(plan.prompts.size());
  plan.loops = s.int_or("loops", 1, 1, kMost), plan.seamless = s.bool_or("seamless", false);
  plan.head = span_in(s, "head"), plan.tail = span_in(s, "tail");
  plan.condition_edit = s.number_or("condition_edit", 0);
  plan.cache = s.string_or("cache", "none");
  plan.quantize = s.string_or("quantize", "none");
  if (const Json* adapters = s.find("lora")) plan.adapters = *adapters;
  plan.cache_memory = static_cast<uint64_t>(s.int_or("cache_memory", 0, 0, std::numeric_limits<int64_t>::max()));
  const bool fits = plan.texts.size() == plan.prompts.size() && !plan.prompts.empty() &&
                    plan.head.frames + plan.tail.frames < plan.num_frames && plan.fps > 0 && plan.fps <= 1000;
  if (!fits) throw DataError("the job's settings do not fit together", "the job is damaged");
  plan.before = file_in(s, "before"), plan.after = file_in(s, "after");
  const Hooks none;
  check_job(job, {*parts_, plan, none});
  const JsonObject weights = s.require_object("weights");
  if (weights.int_or("vae", 0) != parts_->vae_part.fingerprint())
    log_warn("the latents were made for an autoencoder with other weights");
  const MemoryEstimate need = estimate_memory(parts_->sizes, plan);
  const uint64_t room = memory_room(memory, parts_->device).bytes, bytes = need.output + need.decode_peak();
  if (bytes > room)
    throw ResourceError(concat("decoding takes ", bytes >> 20, " MiB of memory more, ", room >> 20, " MiB are free"),
                        "free memory, or give --memory more");
  return plan;
}

}  // namespace kinora::video
