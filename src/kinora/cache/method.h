// A cache of one request: it decides at the seams what a denoising step computes and what it takes from earlier steps.
// Every method is a Policy (sites and the loop over blocks) and may also stand around the whole model call; it owns what
// it keeps and is freed with the request. A new method is a file with a function that makes it, and a row in registry.cpp.
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/base/json.h"
#include "kinora/cache/budget.h"
#include "kinora/cache/store.h"
#include "kinora/diffusion/denoiser.h"
#include "kinora/nn/site.h"

namespace kinora::cache {

/// One decision, as `generate --trace` writes it.
struct Decision {
  int call = 0;
  double timestep = 0;
  std::string_view
      what;  ///< "spatial", "temporal", "full", "cross", "mlp"; "blocks": the loop; "call": the whole model call; "uncond": that branch of it
  std::string_view path;  ///< of the site; empty for the whole call
  bool reused = false;
  double change = std::numeric_limits<double>::quiet_NaN();  ///< what was measured, where the method measures
};

struct Hits {
  int64_t computed = 0, reused = 0;
};

std::string_view kind_name(Kind kind);

/// "spatial_blocks.3.mlp": "spatial_blocks" and 3. Models whose stack has blocks of two lists in turn number each by itself.
struct BlockName {
  std::string_view list;
  int64_t number = -1;
};
BlockName block_name(std::string_view path);

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
  /// Whole ones that its loop over blocks holds beside them, whatever is kept.
  virtual int64_t most_held_values() const { return 0; }
  /// Whether what a block gives to be kept is nothing more than most_kept_values(): it stays as it is, and what was kept
  /// there before is gone.
  virtual bool keeps_in_place() const { return false; }
  /// The kept ones in bytes, for each row of the block's output.
  int64_t most_row_bytes(int64_t width, int64_t element_bytes) const;

  /// For a budget: what keeping at each site of Context::order would take and give; nothing from methods that keep a few values,
  /// all or none.
  virtual std::vector<SiteUse> uses() const { return {}; }
  /// What it keeps at these sites lies in the host's memory: Store::use_host. For methods whose store names sites by their
  /// paths.
  virtual bool can_use_host() const { return false; }
  void use_host(c10::Device device, Paths sites, std::vector<std::string> takes) {
    store_.use_host(device, std::move(sites), std::move(takes));
  }
  const Store& store() const { return store_; }
  /// Keeps nothing at these sites: they are always computed. To be set before the first call.
  void leave_out(Paths sites) { left_out_ = std::move(sites); }
  void set_budget(const BudgetUse& use) { budget_ = use; }
  /// What the budget came to, where there is one.
  const std::optional<BudgetUse>& budget() const { return budget_; }
  const Paths& left_out() const { return left_out_; }

  /// In what form values are kept from here on; to be set before the first call. Methods that keep nothing but latents
  /// have no form.
  void keep_as(Form form) { store_.keep_as(form); }
  Form form() const { return store_.form(); }
  virtual bool has_form() const { return true; }

  /// Whether decisions depend on values: clips that are denoised together would then decide for one another.
  virtual bool looks_at_data() const { return false; }

  std::function<void(const Decision&)> on_decision;

 protected:
  void note(const Decision& decision);
  void note_site(const SiteKey& key, const Run& run, bool reused);

  bool is_left_out(const SiteKey& key) const { return left_out_.contains(key.path); }

  Store store_;  ///< what is kept, unless a method keeps it in a way of its own

 private:
  std::map<std::string, Hits, std::less<>> hits_;
  std::optional<BudgetUse> budget_;
  Paths left_out_;
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

struct CalibratedRun;
struct Calibration;

/// A place in a model where a value can be kept.
struct Site {
  std::string path;
  Kind kind;
  double work = 0;  ///< floating-point operations of one computation
};

/// What a method is for.
struct Context {
  std::string model;                               ///< class: "STDiT3", "CogVideoXTransformer3DModel", ...
  std::map<Kind, int64_t> sites;                   ///< of each kind that the model has
  std::vector<double> schedule;                    ///< the timestep of each call
  int64_t steps = 0;                               ///< that were asked for; PNDM makes more calls
  bool is_stochastic = false;                      ///< the sampler draws noise at each step
  double guidance_scale = 7;                       ///< 1: no guidance, and calls for cond alone
  std::vector<Site> order;                         ///< every site, as a call visits them
  int64_t rows = 0, width = 0, element_bytes = 4;  ///< of a block's output with all branches
  uint64_t budget = 0;                             ///< bytes that are kept at most; 0: no limit
  /// The device whose values may lie in the host's memory beyond the budget; none: beyond it nothing is kept.
  std::optional<c10::Device> host_for;
  std::vector<double> influence;             ///< diffusion/influence.h; empty where it is not known
  const Calibration* calibration = nullptr;  ///< of the model, or none; outlives the making alone
  int64_t sites_of(Kind kind) const;
  bool is_guided() const { return guidance_scale != 1; }
  /// What was measured for just this: these steps at these timesteps, clips of this size, guidance. Throws UsageError, whose hint
  /// says how to measure it.
  const CalibratedRun& measured() const;
};

}  // namespace kinora::cache
