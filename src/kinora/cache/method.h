// A cache of one request: it decides at the seams what a denoising step computes and what it takes from earlier steps.
// Every method is a Policy (sites and the loop over blocks) and may also stand around the whole model call; it owns what
// it keeps and is freed with the request. A new method is a file with a function that makes it, and a row in registry.cpp.
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/cache/store.h"
#include "kinora/diffusion/denoiser.h"
#include "kinora/nn/site.h"

namespace kinora::cache {

/// One decision, as `generate --trace` writes it.
struct Decision {
  int call = 0;
  double timestep = 0;
  std::string_view
      what;  ///< "spatial", "temporal", "full", "cross", "mlp"; "blocks": the loop; "call": the whole model call
  std::string_view path;  ///< of the site; empty for the whole call
  bool reused = false;
  double change = std::numeric_limits<double>::quiet_NaN();  ///< what was measured, where the method measures
};

struct Hits {
  int64_t computed = 0, reused = 0;
};

std::string_view kind_name(Kind kind);

class Method : public Policy {
 public:
  /// The prediction of a step; what the denoiser's seam would give without this method is model.predict(...).
  virtual std::vector<Tensor> predict(Denoiser& model, const Tensor& latents, const Step& step,
                                      std::span<const Branch> wanted);
  /// A guided pair in one call counts once.
  const std::map<std::string, Hits, std::less<>>& hits() const { return hits_; }
  /// Bytes that are kept now.
  virtual uint64_t kept_bytes() const { return store_.bytes(); }
  /// For an estimate: how many values of a block's output [B, T, S, C], all branches, are kept at one time at most.
  virtual int64_t most_kept_values() const = 0;
  /// Of these, those that decisions are made by: they are kept as they are, whatever the form of the others.
  virtual int64_t most_exact_values() const { return 0; }
  /// The same in bytes, for each row of the block's output.
  int64_t most_row_bytes(int64_t width, int64_t element_bytes) const;

  /// In what form values are kept from here on; to be set before the first call. Methods that keep nothing but latents
  /// have no form.
  void keep_as(Form form) { store_.keep_as(form); }
  virtual bool has_form() const { return true; }

  /// Whether decisions depend on values: clips that are denoised together would then decide for one another.
  virtual bool looks_at_data() const { return false; }

  std::function<void(const Decision&)> on_decision;

 protected:
  void note(const Decision& decision);
  void note_site(const SiteKey& key, const Run& run, bool reused);

  Store store_;  ///< what is kept, unless a method keeps it in a way of its own

 private:
  std::map<std::string, Hits, std::less<>> hits_;
};

/// The denoiser's face with a method around it.
class CachedDenoiser final : public Denoiser {
 public:
  CachedDenoiser(Denoiser& model, Method& method) : model_(model), method_(method) {}
  std::vector<Tensor> predict(const Tensor& latents, const Step& step, std::span<const Branch> wanted) override {
    return method_.predict(model_, latents, step, wanted);
  }

 private:
  Denoiser& model_;
  Method& method_;
};

struct Calibration;

/// What a method is for.
struct Context {
  std::string model;              ///< class: "STDiT3", "CogVideoXTransformer3DModel", ...
  std::map<Kind, int64_t> sites;  ///< of each kind that the model has
  std::vector<double> schedule;   ///< the timestep of each call
  int64_t steps = 0;              ///< that were asked for; PNDM makes more calls
  bool is_stochastic = false;     ///< the sampler draws noise at each step
  double guidance_scale = 1;
  std::vector<double> influence;             ///< diffusion/influence.h; empty where it is not known
  const Calibration* calibration = nullptr;  ///< of the model, or none; outlives the making alone
  int64_t sites_of(Kind kind) const;
};

}  // namespace kinora::cache
