// The caches of the seam tests: those of the room `cache`, watched, and two of them at a time.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kinora/cache/pab.h"
#include "seams/subjects.h"

namespace kinora::seams {

/// A cache whose decisions are written down.
class Watched : public Policy {
 public:
  explicit Watched(std::unique_ptr<cache::Method> method);
  bool reuses(const SiteKey& key, const Run& run) const override { return method_->reuses(key, run); }
  Streams reuse(const SiteKey& key, const Run& run) override;
  bool keeps(const SiteKey& key, const Run& run) const override { return method_->keeps(key, run); }
  void keep(const SiteKey& key, const Run& run, const Streams& streams) override;
  void ran(const SiteKey& key, const Run& run, bool reused) override { method_->ran(key, run, reused); }
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override {
    return method_->stack(run, blocks, std::move(streams));
  }

  /// A letter for each decision about an attention, by its path: Computed or Reused. The tests' rules have none for MLPs.
  std::map<std::string, std::string> sites;
  std::string calls;             ///< a letter for each decision about the loop over blocks
  std::vector<double> changes;   ///< what was measured for them, from the second on
  int oldest = 0;                ///< calls between a reuse and the computation that it repeats, at most
  int count(char letter) const;  ///< at sites
  uint64_t bytes() const { return method_->kept_bytes(); }

 private:
  std::unique_ptr<cache::Method> method_;
  std::map<std::string, int> kept_at_;
};

using PabRules = std::map<Kind, cache::PabRule>;

/// What diffusers' defaults mean on these models: values before the gate, timesteps strictly between 100 and 800.
PabRules usual_rules();
std::unique_ptr<cache::Method> make_pab(PabRules rules = usual_rules());
/// 0 computes everything.
std::unique_ptr<cache::Method> make_first_block(double threshold);

/// The cache that `text` names (cache/registry.h), for one of the tests' models.
std::unique_ptr<cache::Method> make_cache(const std::string& text, const Subject& subject);

/// Sites to one policy, the loop to another.
class Both : public Policy {
 public:
  Both(Policy& sites, Policy& loop) : sites_(sites), loop_(loop) {}
  bool reuses(const SiteKey& key, const Run& run) const override { return sites_.reuses(key, run); }
  bool keeps(const SiteKey& key, const Run& run) const override { return sites_.keeps(key, run); }
  Streams reuse(const SiteKey& key, const Run& run) override { return sites_.reuse(key, run); }
  void keep(const SiteKey& key, const Run& run, const Streams& streams) override { sites_.keep(key, run, streams); }
  void ran(const SiteKey& key, const Run& run, bool reused) override { sites_.ran(key, run, reused); }
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override {
    return loop_.stack(run, blocks, std::move(streams));
  }

 private:
  Policy &sites_, &loop_;
};

}  // namespace kinora::seams
