// What a cache keeps from one model call to the next: values by site, the guidance branches apart.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/cache/form.h"
#include "kinora/nn/site.h"

namespace kinora::cache {

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
  std::optional<Streams> find(std::string_view site, const std::vector<Branch>& rows) const;
  bool has(std::string_view site, const std::vector<Branch>& rows) const;
  /// Frees what is kept of these branches.
  void drop(std::string_view site, const std::vector<Branch>& rows);

  /// Of all storages that are held, each once.
  uint64_t bytes() const;

 private:
  struct Entry {
    std::vector<Branch> rows;
    std::vector<Kept> streams;
  };
  using Entries = std::vector<Entry>;
  static Entries without(const Entries& entries, const std::vector<Branch>& rows);
  void put_as(Form form, std::string_view site, const std::vector<Branch>& rows, const Streams& streams);
  Form form_ = Form::same;
  std::map<std::string, Entries, std::less<>> sites_;  // of a site's entries no two share a branch
};

}  // namespace kinora::cache
