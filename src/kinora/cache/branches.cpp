#include "kinora/cache/branches.h"

namespace kinora::cache {

std::vector<Branch> branches_of(const Run& run) {
  if (run.rows.empty()) return {Branch::cond};
  return {run.rows.begin(), run.rows.end()};
}

std::vector<Streams> split_branches(const Streams& streams, size_t branches) {
  std::vector<Streams> parts(branches);
  for (const Tensor& t : streams) {
    const int64_t rows = t.size(0) / static_cast<int64_t>(branches);
    for (size_t b = 0; b < branches; ++b) parts[b].push_back(t.narrow(0, static_cast<int64_t>(b) * rows, rows));
  }
  return parts;
}

Streams join_branches(const std::vector<Streams>& parts) {
  if (parts.size() == 1) return parts.front();
  Streams joined;
  for (size_t s = 0; s < parts.front().size(); ++s) {
    std::vector<Tensor> rows;
    for (const Streams& part : parts) rows.push_back(part[s]);
    joined.push_back(at::cat(rows));
  }
  return joined;
}

}  // namespace kinora::cache
