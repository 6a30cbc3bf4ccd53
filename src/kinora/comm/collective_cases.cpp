#include "kinora/comm/collective_cases.h"

#include <gtest/gtest.h>

#include "kinora/comm/counts.h"

namespace kinora::comm {
namespace {

/// What rank `from` has for rank `to`: no two elements of all ranks are alike.
Tensor part(int from, int to, int64_t count, at::ScalarType dtype) {
  return (at::arange(count, at::kLong) % 7 + 16 * from + 5 * to).to(dtype);
}

/// Uneven, some zero, another in every round.
std::vector<int64_t> uneven(int size, int rank, int round) {
  std::vector<int64_t> counts;
  for (int i = 0; i < size; ++i)
    counts.push_back((3 * rank + 5 * i + round) % 4 == 0 ? 0 : (rank + 2 * i + round) % 17);
  return counts;
}

void expect_same(const Tensor& got, const Tensor& want) { EXPECT_TRUE(at::equal(got, want)) << got << "\n" << want; }

void expect_all_to_all(Communicator& group, int round, at::ScalarType dtype) {
  std::vector<int64_t> from, to = uneven(group.size(), group.rank(), round);
  std::vector<Tensor> sent, want;
  for (int p = 0; p < group.size(); ++p) {
    from.push_back(uneven(group.size(), p, round)[static_cast<size_t>(group.rank())]);
    sent.push_back(part(group.rank(), p, to[static_cast<size_t>(p)], dtype));
    want.push_back(part(p, group.rank(), from.back(), dtype));
  }
  const Tensor in = at::cat(sent), out = at::full({sum(from)}, 99, dtype);
  group.all_to_all(out, in, from, to, "case")->wait();
  expect_same(out, at::cat(want));
}

void expect_all_gather(Communicator& group, int round, at::ScalarType dtype) {
  const auto counts = uneven(group.size(), 1, round);
  std::vector<Tensor> want;
  for (int p = 0; p < group.size(); ++p) want.push_back(part(p, 0, counts[static_cast<size_t>(p)], dtype));
  const Tensor out = at::full({sum(counts)}, 99, dtype);
  group.all_gather(out, want[static_cast<size_t>(group.rank())], counts, "case")->wait();
  expect_same(out, at::cat(want));
}

void expect_broadcast(Communicator& group, int root, at::ScalarType dtype) {
  const Tensor want = part(root, 3, 11 + root, dtype),
               values = group.rank() == root ? want.clone() : at::zeros_like(want);
  group.broadcast(values, root, "case")->wait();
  expect_same(values, want);
}

/// Values whose sum depends on its order and on where it is rounded.
Tensor rough(int rank, int64_t count, at::ScalarType dtype) {
  const Tensor x = at::arange(count, at::kDouble) + 1.3 * rank;
  const Tensor y = at::sin(x) * at::pow(10.0, at::remainder(x * 3, 5) - 2);
  return (at::isIntegralType(dtype, true) ? y * 100 : y).to(dtype);
}

Tensor naive_sum(int ranks, int64_t count, at::ScalarType dtype) {
  const bool is_half = at::isReducedFloatingType(dtype);
  Tensor total = rough(0, count, dtype).to(is_half ? at::kFloat : dtype);
  for (int r = 1; r < ranks; ++r) total = total + rough(r, count, dtype).to(total.scalar_type());
  return total.to(dtype);
}

}  // namespace

void expect_exchanges(Communicator& group) {
  int round = 0;
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kLong, at::kByte, at::kBool}) {
    for (int i = 0; i < 3; ++i, ++round) {
      expect_all_to_all(group, round, dtype);
      expect_all_gather(group, round, dtype);
    }
    for (int root = 0; root < group.size(); ++root) expect_broadcast(group, root, dtype);
    group.barrier("case");
  }
}

void expect_ordered_sums(Communicator& group) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kLong}) {
    for (const int64_t count : {0, 1, 2, 17, 1000}) {
      const Tensor values = rough(group.rank(), count, dtype), want = naive_sum(group.size(), count, dtype);
      group.all_reduce(values, "sum")->wait();
      expect_same(values, want);

      const auto counts = uneven(group.size(), 2, static_cast<int>(count));
      const Tensor in = rough(group.rank(), sum(counts), dtype), before = in.clone(),
                   out = at::empty({counts[static_cast<size_t>(group.rank())]}, dtype);
      group.reduce_scatter(out, in, counts, "sum")->wait();
      const auto begin = offsets(counts)[static_cast<size_t>(group.rank())];
      expect_same(out, naive_sum(group.size(), sum(counts), dtype).narrow(0, begin, out.numel()));
      expect_same(in, before);
    }
  }
}

void expect_overlap(Communicator& group) {
  constexpr int kWorks = 5;
  std::vector<Tensor> sums, gathered;
  std::vector<std::unique_ptr<Work>> works;
  const std::vector<int64_t> counts(static_cast<size_t>(group.size()), 3);
  for (int i = 0; i < kWorks; ++i) {
    sums.push_back(at::full({7}, group.rank() + i, at::kFloat));
    works.push_back(group.all_reduce(sums.back(), "several"));
    gathered.push_back(at::empty({3 * group.size()}, at::kLong));
    works.push_back(
        group.all_gather(gathered.back(), at::full({3}, 10 * group.rank() + i, at::kLong), counts, "several"));
  }
  for (size_t i = 0; i < works.size(); ++i) works[(i * 3 + static_cast<size_t>(group.rank())) % works.size()]->wait();
  for (int i = 0; i < kWorks; ++i) {
    const int n = group.size();
    expect_same(sums[static_cast<size_t>(i)], at::full({7}, n * (n - 1) / 2 + n * i, at::kFloat));
    expect_same(gathered[static_cast<size_t>(i)], (at::arange(n, at::kLong) * 10 + i).repeat_interleave(3));
  }
}

void expect_messages(Communicator& group) {
  const int n = group.size(), next = (group.rank() + 1) % n, before = (group.rank() + n - 1) % n;
  if (n == 1) return;
  std::vector<std::unique_ptr<Work>> works;
  std::vector<Tensor> got;
  for (int64_t i = 0; i < 4; ++i) {
    works.push_back(group.send(at::full({5}, 100 * group.rank() + i, at::kLong), next, "ring"));
    got.push_back(at::empty({5}, at::kLong));
    works.push_back(group.recv(got.back(), before, "ring"));
  }
  for (auto& work : works) work->wait();
  for (int64_t i = 0; i < 4; ++i) expect_same(got[static_cast<size_t>(i)], at::full({5}, 100 * before + i, at::kLong));
}

void expect_groups(Communicator& group) {
  const int rank = group.rank(), n = group.size();
  const auto rows = group.split(rank / 2, rank), columns = group.split(rank % 2, -rank), alone = group.split(rank, 0);
  EXPECT_EQ(alone->size(), 1);
  EXPECT_EQ(rows->size(), rank / 2 * 2 + 1 < n ? 2 : 1);
  EXPECT_EQ(rows->rank(), rank % 2);
  EXPECT_EQ(columns->size(), (n + 1 - rank % 2) / 2);
  EXPECT_EQ(columns->rank(), columns->size() - 1 - rank / 2) << "ordered by key";
  expect_exchanges(*rows);
  expect_ordered_sums(*columns);
  expect_overlap(*columns);
  const Tensor total = at::full({1}, 1 << rank, at::kLong);
  auto first = columns->all_reduce(total, "columns");  // two groups at once
  expect_messages(*rows);
  first->wait();
  int64_t want = 0;
  for (int r = rank % 2; r < n; r += 2) want += 1 << r;
  expect_same(total, at::full({1}, want, at::kLong));
}

void expect_collectives(Communicator& group) {
  expect_exchanges(group);
  expect_ordered_sums(group);
  expect_overlap(group);
  expect_messages(group);
  expect_groups(group);
}

}  // namespace kinora::comm
