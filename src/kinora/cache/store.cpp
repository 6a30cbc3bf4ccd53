#include "kinora/cache/store.h"

#include <algorithm>
#include <set>

#include "kinora/cache/branches.h"
#include "kinora/tensor/allocator.h"

namespace kinora::cache {
namespace {

bool has_branch(const std::vector<Branch>& rows, Branch branch) {
  return std::find(rows.begin(), rows.end(), branch) != rows.end();
}

}  // namespace

Store::Entries Store::without(const Entries& entries, const std::vector<Branch>& rows) {
  Entries rest;
  for (const Entry& e : entries) {
    if (e.rows == rows) continue;
    const auto parts = split_branches(e.streams, e.rows.size());
    for (size_t r = 0; r < e.rows.size(); ++r) {
      if (!has_branch(rows, e.rows[r])) rest.push_back({{e.rows[r]}, parts[r]});
    }
  }
  return rest;
}

void Store::put(std::string_view site, const std::vector<Branch>& rows, Streams streams) {
  for (const Tensor& t : streams) recount_as(t, MemoryKind::caches);
  Entries& entries = sites_[std::string(site)];
  entries = without(entries, rows);
  entries.push_back({rows, std::move(streams)});
}

std::optional<Streams> Store::find(std::string_view site, const std::vector<Branch>& rows) const {
  const auto known = sites_.find(site);
  if (known == sites_.end()) return std::nullopt;
  for (const Entry& e : known->second) {
    if (e.rows == rows) return e.streams;
  }
  std::vector<Streams> parts;
  for (const Branch branch : rows) {
    const auto entry = std::find_if(known->second.begin(), known->second.end(),
                                    [&](const Entry& e) { return has_branch(e.rows, branch); });
    if (entry == known->second.end()) return std::nullopt;
    const auto at = std::find(entry->rows.begin(), entry->rows.end(), branch) - entry->rows.begin();
    parts.push_back(split_branches(entry->streams, entry->rows.size())[static_cast<size_t>(at)]);
  }
  return join_branches(parts);
}

bool Store::has(std::string_view site, const std::vector<Branch>& rows) const {
  const auto known = sites_.find(site);
  return known != sites_.end() && std::all_of(rows.begin(), rows.end(), [&](Branch branch) {
           return std::any_of(known->second.begin(), known->second.end(),
                              [&](const Entry& e) { return has_branch(e.rows, branch); });
         });
}

void Store::drop(std::string_view site, const std::vector<Branch>& rows) {
  const auto known = sites_.find(site);
  if (known == sites_.end()) return;
  known->second = without(known->second, rows);
  if (known->second.empty()) sites_.erase(known);
}

uint64_t Store::bytes() const {
  std::set<const void*> seen;
  uint64_t total = 0;
  for (const auto& [site, entries] : sites_) {
    for (const Entry& e : entries) {
      for (const Tensor& t : e.streams) {
        if (seen.insert(t.storage().unsafeGetStorageImpl()).second) total += t.storage().nbytes();
      }
    }
  }
  return total;
}

}  // namespace kinora::cache
