// What a cache keeps from one model call to the next: values by site, the guidance branches apart.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/cache/carrier.h"
#include "kinora/cache/form.h"
#include "kinora/nn/site.h"

namespace kinora::cache {

using Paths = std::set<std::string, std::less<>>;

class Store {
 public:
  /// What is put from here on is kept in this form.
  void keep_as(Form form) { form_ = form; }
  Form form() const { return form_; }

  /// Replaces what was kept of these branches at this site. The memory counts as MemoryKind::caches from here on.
  void put(std::string_view site, const std::vector<Branch>& rows, const Streams& streams);
  /// Whatever the form, as it is: what decisions are made by.
  void put_exact(std::string_view site, const std::vector<Branch>& rows, const Streams& streams);
  /// In the order of `rows`; nothing unless every branch is there. What was put for the same rows as it is comes back
  /// without a copy.
  std::optional<Streams> find(std::string_view site, const std::vector<Branch>& rows);
  bool has(std::string_view site, const std::vector<Branch>& rows) const;
  /// Frees what is kept of these branches.
  void drop(std::string_view site, const std::vector<Branch>& rows);

  /// What is put of these sites from here on lies in the host's memory. takes: the order in which they will be taken, which
  /// decides nothing but time: each is fetched to the device when the one before it is taken, or as soon as it is put.
  void use_host(c10::Device device, Paths sites, std::vector<std::string> takes);
  /// The site whose value is on the device again, or on its way; empty: none.
  std::string_view fetched() const { return host_ ? std::string_view(host_->fetched) : std::string_view(); }
  /// Those that were begun when they were wanted are late.
  struct Fetches {
    int64_t ahead = 0, late = 0;
  };
  Fetches fetches() const { return host_ ? host_->fetches : Fetches(); }

  /// Of all storages that are held, each once: all of them, and those on the device.
  uint64_t bytes() const;
  uint64_t device_bytes() const;

 private:
  struct Entry {
    std::vector<Branch> rows;
    std::vector<Kept> streams;
  };
  using Entries = std::vector<Entry>;
  struct Host {
    Carrier carrier;
    Paths sites;
    std::vector<std::string> takes;
    size_t next = 0;  // of takes
    std::string fetched;
    Entries entries;  // of it
    Fetches fetches;
    Carrier::Mark there;
  };
  static std::optional<Streams> joined(const Entries& entries, const std::vector<Branch>& rows);
  static uint64_t bytes_of(const std::vector<const Entries*>& lists);
  Kept to_host(const Kept& kept) const;
  void fetch(std::string_view site);
  void fetch_ahead();
  void forget_fetched();
  Entries take(std::string_view site);
  static Entries without(const Entries& entries, const std::vector<Branch>& rows);
  void put_as(Form form, std::string_view site, const std::vector<Branch>& rows, const Streams& streams);
  Form form_ = Form::same;
  std::optional<Host> host_;
  std::map<std::string, Entries, std::less<>> sites_;  // of a site's entries no two share a branch
};

}  // namespace kinora::cache
