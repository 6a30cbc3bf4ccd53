// Two policies as small as they come: attention broadcast by sites (PAB, Zhao et al. 2024, in the rules of diffusers)
// and a cache that owns the loop over blocks (First-Block-Cache, in the rules of diffusers).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kinora/nn/site.h"

namespace kinora::seams {

struct PabRule {
  int range = 2;                 ///< one computation, then at most range - 1 reuses
  double low = 100, high = 800;  ///< timesteps strictly between may reuse
};

/// Reuses what an attention gave before its gate, if the call is no multiple of the range and the timestep lies in
/// the window. Values are kept apart for each guidance branch. Nothing older than range - 1 calls is reused.
class Pab : public Policy {
 public:
  explicit Pab(std::map<Kind, PabRule> rules) : rules_(std::move(rules)) {}
  bool reuses(const SiteKey& key, const Run& run) const override;
  bool keeps(const SiteKey& key, const Run&) const override {
    return key.point == Point::module && rules_.count(key.kind) > 0;
  }
  Streams reuse(const SiteKey& key, const Run& run) override;
  void keep(const SiteKey& key, const Run& run, const Streams& streams) override;

  std::map<std::string, std::string> log;  ///< a letter for each visit of a site: Computed or Reused
  int count(char letter) const;
  int oldest = 0;        ///< calls between a reuse and the computation that it repeats, at most
  size_t bytes() const;  ///< of all storages that are held

 private:
  struct Kept {
    Streams streams;
    int call = 0;
  };
  const Kept* find(const SiteKey& key, Branch branch) const;
  std::map<Kind, PabRule> rules_;
  std::map<std::pair<std::string, Branch>, Kept> kept_;
};

/// What diffusers' defaults mean on these models.
std::map<Kind, PabRule> usual_rules();

/// Runs the first block; where its residual changed by no more than `threshold` (mean absolute, relative) since the
/// last full computation, what the other blocks added then stands in for them. Sums go over all ranks; the most
/// changed branch decides.
class FirstBlockCache : public Policy {
 public:
  explicit FirstBlockCache(double threshold) : threshold_(threshold) {}
  bool keeps(const SiteKey&, const Run&) const override { return false; }
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override;

  std::string log;                                   ///< a letter for each call: Computed or Reused
  std::vector<double> ratios;                        ///< of each call but the first of a branch
  bool sums_over_ranks = true, cuts_padding = true;  ///< false: broken on purpose

 private:
  struct Kept {
    Tensor residual;  ///< of the first block, video
    Streams tail;     ///< what the others added
  };
  double changed(const Run& run, const Stack& blocks, const Tensor& residual) const;
  double threshold_;
  std::map<Branch, Kept> kept_;
};

/// Sites to one policy, the loop to another.
class Both : public Policy {
 public:
  Both(Policy& sites, Policy& loop) : sites_(sites), loop_(loop) {}
  bool reuses(const SiteKey& key, const Run& run) const override { return sites_.reuses(key, run); }
  bool keeps(const SiteKey& key, const Run& run) const override { return sites_.keeps(key, run); }
  Streams reuse(const SiteKey& key, const Run& run) override { return sites_.reuse(key, run); }
  void keep(const SiteKey& key, const Run& run, const Streams& streams) override { sites_.keep(key, run, streams); }
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override {
    return loop_.stack(run, blocks, std::move(streams));
  }

 private:
  Policy &sites_, &loop_;
};

}  // namespace kinora::seams
