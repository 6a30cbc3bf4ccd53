// A policy that plays another's answers while a block is captured.
#pragma once

#include <map>
#include <vector>

#include "kinora/nn/site.h"

namespace kinora::graph {

/// What the sites of one block do in one call.
struct SiteBits {
  std::vector<bool> reached, reused, kept;
};

/// Answers by the bits, hands out twins for what is reused, notes what is to be kept; or, without bits, finds the sites.
class Script : public Policy {
 public:
  explicit Script(std::vector<SiteKey>* found) : found_(found) {}
  Script(const std::vector<SiteKey>& sites, const SiteBits& bits, std::map<size_t, Streams> twins)
      : sites_(&sites), bits_(bits), twins_(std::move(twins)) {}

  bool reuses(const SiteKey& key, const Run& run) const override;
  bool keeps(const SiteKey& key, const Run&) const override { return found_ == nullptr && bits_.kept[index(key)]; }
  Streams reuse(const SiteKey& key, const Run&) override { return twins_.at(index(key)); }
  void keep(const SiteKey& key, const Run&, const Streams& streams) override { outputs[index(key)] = streams; }

  std::map<size_t, Streams> outputs;  ///< by site

 private:
  size_t index(const SiteKey& key) const;
  std::vector<SiteKey>* found_ = nullptr;
  const std::vector<SiteKey>* sites_ = nullptr;
  SiteBits bits_;
  std::map<size_t, Streams> twins_;
};

/// What the block gives for streams that are twins of a capture, under `policy`; its weights are constants.
Streams trace_block(const Run& run, const Stack& blocks, int block, Streams streams, Policy& policy);

}  // namespace kinora::graph
