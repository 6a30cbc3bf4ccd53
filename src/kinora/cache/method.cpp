#include "kinora/cache/method.h"

#include <charconv>

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
