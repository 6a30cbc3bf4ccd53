#include "kinora/cache/store.h"

#include <algorithm>
#include <set>

#include "kinora/cache/branches.h"

namespace kinora::cache {
namespace {

bool has_branch(const std::vector<Branch>& rows, Branch branch) {
  return std::find(rows.begin(), rows.end(), branch) != rows.end();
}

std::vector<Kept> parts_of(const std::vector<Kept>& streams, size_t at, size_t groups) {
  std::vector<Kept> parts;
  for (const Kept& kept : streams) parts.push_back(part_of(kept, at, groups));
  return parts;
}

Streams restored_all(const std::vector<Kept>& streams) {
  Streams all;
  for (const Kept& kept : streams) all.push_back(restored(kept));
  return all;
}

}  // namespace

Store::Entries Store::without(const Entries& entries, const std::vector<Branch>& rows) {
  Entries rest;
  for (const Entry& e : entries) {
    if (e.rows == rows) continue;
    for (size_t r = 0; r < e.rows.size(); ++r) {
      if (!has_branch(rows, e.rows[r])) rest.push_back({{e.rows[r]}, parts_of(e.streams, r, e.rows.size())});
    }
  }
  return rest;
}

void Store::put(std::string_view site, const std::vector<Branch>& rows, const Streams& streams) {
  put_as(form_, site, rows, streams);
}

void Store::put_exact(std::string_view site, const std::vector<Branch>& rows, const Streams& streams) {
  put_as(Form::same, site, rows, streams);
}

void Store::put_as(Form form, std::string_view site, const std::vector<Branch>& rows, const Streams& streams) {
  Entries& entries = sites_[std::string(site)];
  entries = without(entries, rows);  // freed before the new one takes its memory
  Entry entry{rows, {}};
  const bool is_on_host = host_ && host_->sites.contains(site);
  if (is_on_host) {
    if (host_->fetched == site) forget_fetched();
    host_->carrier.pace();
  }
  for (const Tensor& t : streams) {
    Kept kept = kept_as(t, form);
    entry.streams.push_back(is_on_host ? to_host(kept) : std::move(kept));
  }
  entries.push_back(std::move(entry));
  if (is_on_host) fetch_ahead();
}

std::optional<Streams> Store::find(std::string_view site, const std::vector<Branch>& rows) {
  const auto known = sites_.find(site);
  if (known == sites_.end()) return std::nullopt;
  if (!host_ || !host_->sites.contains(site)) return joined(known->second, rows);
  if (!has(site, rows)) return std::nullopt;
  return joined(take(site), rows);
}

std::optional<Streams> Store::joined(const Entries& entries, const std::vector<Branch>& rows) {
  for (const Entry& e : entries) {
    if (e.rows == rows) return restored_all(e.streams);
  }
  std::vector<Streams> parts;
  for (const Branch branch : rows) {
    const auto entry =
        std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return has_branch(e.rows, branch); });
    if (entry == entries.end()) return std::nullopt;
    const auto at = std::find(entry->rows.begin(), entry->rows.end(), branch) - entry->rows.begin();
    parts.push_back(restored_all(parts_of(entry->streams, static_cast<size_t>(at), entry->rows.size())));
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
  if (host_ && host_->fetched == site) forget_fetched();
  known->second = without(known->second, rows);
  if (known->second.empty()) sites_.erase(known);
}

uint64_t Store::bytes() const {
  std::vector<const Entries*> lists;
  for (const auto& [site, entries] : sites_) lists.push_back(&entries);
  if (host_) lists.push_back(&host_->entries);
  return bytes_of(lists);
}

uint64_t Store::device_bytes() const {
  std::vector<const Entries*> lists;
  for (const auto& [site, entries] : sites_) {
    if (!host_ || !host_->sites.contains(site)) lists.push_back(&entries);
  }
  if (host_) lists.push_back(&host_->entries);
  return bytes_of(lists);
}

uint64_t Store::bytes_of(const std::vector<const Entries*>& lists) {
  std::set<const void*> seen;
  uint64_t total = 0;
  for (const Entries* entries : lists) {
    for (const Entry& e : *entries) {
      for (const Kept& kept : e.streams) {
        for (const Tensor& t : {kept.values, kept.scales}) {
          if (t.defined() && seen.insert(t.storage().unsafeGetStorageImpl()).second) total += t.storage().nbytes();
        }
      }
    }
  }
  return total;
}

}  // namespace kinora::cache
