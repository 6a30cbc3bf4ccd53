// Tells streamed weights which sites a cache will reuse, so that their weights are not transferred.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kinora/nn/site.h"
#include "kinora/offload/streamed.h"

namespace kinora::offload {

/// A policy around another (or none) that changes nothing of what it decides. Before the blocks of a call run it asks
/// `inner` about every site that was seen in calls before, for this call and for the next one, and passes over the
/// weights under the paths of reused sites. A cache that owns the loop over blocks and decides while it runs is not
/// asked; what it leaves out was copied in vain once, until the ring has learned the course. Both must outlive it.
class Ahead final : public Policy {
 public:
  Ahead(const Params& params, StreamedWeights& weights, Policy* inner = nullptr)
      : params_(params), weights_(weights), inner_(inner) {}

  bool reuses(const SiteKey& key, const Run& run) const override { return inner_ && inner_->reuses(key, run); }
  Streams reuse(const SiteKey& key, const Run& run) override { return inner_->reuse(key, run); }
  bool keeps(const SiteKey& key, const Run& run) const override { return inner_ && inner_->keeps(key, run); }
  void keep(const SiteKey& key, const Run& run, const Streams& streams) override { inner_->keep(key, run, streams); }
  void ran(const SiteKey& key, const Run& run, bool reused) override;
  Streams stack(const Run& run, const Stack& blocks, Streams streams) override;

 private:
  struct Site {
    SiteKey key;               ///< its path is the map's
    std::vector<int32_t> ids;  ///< of the parameters under it
  };
  std::vector<bool> reused(const Run& run) const;

  const Params& params_;
  StreamedWeights& weights_;
  Policy* inner_;
  std::map<std::pair<std::string, Point>, Site> sites_;
};

}  // namespace kinora::offload
