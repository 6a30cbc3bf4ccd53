// The part of a store that lies in the host's memory.
#include <algorithm>

#include "kinora/cache/store.h"
#include "kinora/tensor/allocator.h"

namespace kinora::cache {
namespace {

template <typename Carry>
Kept carried(const Kept& kept, const Carry& carry) {
  const auto one = [&](const Tensor& t) {
    Tensor copy = t.defined() ? carry(t) : Tensor();
    recount_as(copy, MemoryKind::caches);
    return copy;
  };
  return {one(kept.values), one(kept.scales), kept.dtype};
}

}  // namespace

void Store::use_host(c10::Device device, Paths sites, std::vector<std::string> takes) {
  host_.emplace(Host{.carrier = Carrier(device), .sites = std::move(sites), .takes = std::move(takes)});
}

Kept Store::to_host(const Kept& kept) const {
  return carried(kept, [&](const Tensor& t) { return host_->carrier.to_host(t); });
}

void Store::fetch(std::string_view site) {
  Host& host = *host_;
  host.carrier.pace();
  host.fetched = site;
  for (const Entry& e : sites_.find(site)->second) {
    Entry& copy = host.entries.emplace_back(Entry{e.rows, {}});
    for (const Kept& kept : e.streams)
      copy.streams.push_back(carried(kept, [&](const Tensor& t) { return host.carrier.to_device(t); }));
  }
  host.there = host.carrier.mark();
}

void Store::fetch_ahead() {
  Host& host = *host_;
  if (!host.fetched.empty() || host.next == host.takes.size()) return;
  const std::string& site = host.takes[host.next];
  if (!sites_.contains(site)) return;  // it is put before it is taken, and comes back here
  fetch(site);
  ++host.fetches.ahead;
}

void Store::forget_fetched() {
  host_->fetched.clear(), host_->entries.clear();
  host_->there.reset();
}

Store::Entries Store::take(std::string_view site) {
  Host& host = *host_;
  if (host.fetched != site) {
    forget_fetched();
    fetch(site);
    ++host.fetches.late;
  }
  for (const Entry& e : host.entries) {
    for (const Kept& kept : e.streams) {
      host.carrier.join(host.there, kept.values);
      if (kept.scales.defined()) host.carrier.join(host.there, kept.scales);
    }
  }
  Entries entries = std::move(host.entries);
  forget_fetched();
  const auto from = host.takes.begin() + static_cast<std::ptrdiff_t>(host.next);
  const auto at = std::find(from, host.takes.end(), site);
  if (at != host.takes.end()) host.next = static_cast<size_t>(at - host.takes.begin()) + 1;
  fetch_ahead();
  return entries;
}

}  // namespace kinora::cache
