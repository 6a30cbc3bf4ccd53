#include "kinora/cache/method.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kinora/base/error.h"
#include "kinora/cache/calibration.h"

namespace kinora::cache {

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::spatial: return "spatial";
    case Kind::temporal: return "temporal";
    case Kind::full: return "full";
    case Kind::cross: return "cross";
    case Kind::mlp: return "mlp";
  }
  return "";
}

BlockName block_name(std::string_view path) {
  const size_t dot = path.find('.');
  if (dot == std::string_view::npos) return {path};
  BlockName name{path.substr(0, dot)};
  std::from_chars(path.data() + dot + 1, path.data() + path.size(), name.number);
  return name;
}

int64_t Context::sites_of(Kind kind) const {
  const auto found = sites.find(kind);
  return found == sites.end() ? 0 : found->second;
}

const CalibratedRun& Context::measured() const {
  constexpr double kNear = 0.5;  // of a timestep
  const std::string measure = concat("kinora calibrate --steps ", steps, " measures it");
  const CalibratedRun* run = calibration ? calibration->find(steps) : nullptr;
  if (!run) throw UsageError(concat("nothing was measured of ", model, " at ", steps, " steps"), measure);
  if (!is_guided())
    throw UsageError("the calibration is of runs with guidance", "take a cache that needs none, such as pab");
  const bool is_near = std::equal(run->schedule.begin(), run->schedule.end(), schedule.begin(), schedule.end(),
                                  [](double a, double b) { return std::abs(a - b) <= kNear; });
  if (run->rows != rows || !is_near)
    throw UsageError("the calibration is of another size of clip, or of other timesteps",
                     measure + ", with this request's size");
  return *run;
}

std::vector<Tensor> Method::predict(Denoiser& model, const Tensor& latents, const Step& step,
                                    std::span<const Branch> wanted) {
  return model.predict(latents, step, wanted);
}

int64_t Method::most_row_bytes(int64_t width, int64_t element_bytes) const {
  const int64_t exact = most_exact_values();
  return exact * row_bytes(Form::same, width, element_bytes) +
         (most_kept_values() - exact) * row_bytes(store_.form(), width, element_bytes);
}

void Method::note(const Decision& decision) {
  auto& hits = hits_[std::string(decision.what)];
  ++(decision.reused ? hits.reused : hits.computed);
  if (on_decision) on_decision(decision);
}

void Method::note_site(const SiteKey& key, const Run& run, bool reused) {
  note({.call = run.step.call,
        .timestep = run.step.timestep,
        .what = kind_name(key.kind),
        .path = key.path,
        .reused = reused});
}

}  // namespace kinora::cache
