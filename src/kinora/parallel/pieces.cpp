#include "kinora/parallel/pieces.h"

#include <algorithm>

#include "kinora/comm/counts.h"

namespace kinora::parallel {

std::vector<int64_t> piece_counts(int64_t n, int ranks, int pieces, int64_t least) {
  const int64_t rounds = n / ranks;  // in each of which every rank gets one
  const auto most = static_cast<int>(std::clamp<int64_t>(rounds / least, 1, pieces));
  std::vector<int64_t> counts = comm::even_counts(rounds, most);
  for (int64_t& count : counts) count *= ranks;
  counts.back() += n % ranks;
  return counts;
}

std::vector<Tensor> switch_around(std::vector<Piece> pieces, Communicator& group, const std::string& there,
                                  const std::string& back, const std::vector<int64_t>& order,
                                  c10::function_ref<Tensor(size_t, std::vector<Tensor>)> f) {
  std::vector<Switching> coming, going;
  const auto call = [&](size_t i) {
    if (i < pieces.size()) coming.emplace_back(std::move(pieces[i].tensors), pieces[i].there, group, there);
  };
  call(0);
  for (size_t i = 0; i < pieces.size(); ++i) {
    call(i + 1);
    going.emplace_back(std::vector<Tensor>{f(i, coming[i].wait())}, pieces[i].there.back(order), group, back);
  }
  std::vector<Tensor> out;
  for (Switching& result : going) out.push_back(result.wait()[0]);
  return out;
}

Tensor join_in_order(const std::vector<Tensor>& parts, int64_t dim, const std::vector<int64_t>& order) {
  if (parts.size() == 1) return parts[0];
  std::vector<Tensor> in_memory;
  for (const Tensor& t : parts) in_memory.push_back(t.permute(order));
  std::vector<int64_t> back(order.size());
  for (size_t i = 0; i < order.size(); ++i) back[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  return at::cat(in_memory, back[static_cast<size_t>(dim)]).permute(back);
}

}  // namespace kinora::parallel
