#include "kinora/tensor/allocator.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <thread>

#include "kinora/base/error.h"
#include "kinora/tensor/test_ledger.h"

namespace kinora {
namespace {

// The allocator keeps its ledger for good, so the tests share one that is never destroyed.
Ledger& ledger() {
  static Ledger* const instance = [] {
    auto* made = new Ledger;
    install_counting_allocator(*made);
    return made;
  }();
  return *instance;
}

constexpr uint64_t kHead = 64;  // what the allocator adds to each block

TEST(CountingAllocator, CountsATensorFromBirthToDeath) {
  Ledger& counts = ledger();
  const uint64_t before = counts.current(MemoryKind::activations);
  {
    const at::Tensor a = at::ones({3, 5, 7});
    EXPECT_EQ(counts.current(MemoryKind::activations), before + 420 + kHead);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.const_data_ptr()) % 64, 0U);
    const at::Tensor view = a.transpose(0, 2).slice(0, 1, 3);
    EXPECT_EQ(counts.current(MemoryKind::activations), before + 420 + kHead);
    EXPECT_FLOAT_EQ(at::matmul(a, at::ones({7, 2})).sum().item<float>(), 3 * 5 * 7 * 2);
  }
  EXPECT_EQ(counts.current(MemoryKind::activations), before);
}

TEST(CountingAllocator, CountsUnderTheKindOfTheScope) {
  Ledger& counts = ledger();
  at::Tensor weight;
  {
    const CountAs weights(MemoryKind::weights);
    weight = at::zeros({1000});
    {
      const CountAs scratch(MemoryKind::scratch);
      const at::Tensor tmp = at::zeros({10});
      EXPECT_EQ(counts.current(MemoryKind::scratch), 40 + kHead);
    }
    std::thread([&] {
      const uint64_t before = counts.current(MemoryKind::activations);
      const at::Tensor other = at::zeros({10});
      EXPECT_EQ(counts.current(MemoryKind::activations), before + 40 + kHead);  // the scope is this thread's own
    }).join();
  }
  EXPECT_EQ(counts.current(MemoryKind::weights), 4000 + kHead);
  recount_as(weight.slice(0, 3, 5), MemoryKind::caches);
  EXPECT_EQ(counts.current(MemoryKind::weights), 0U);
  EXPECT_EQ(counts.current(MemoryKind::caches), 4000 + kHead);
  weight.reset();
  EXPECT_EQ(counts.current(MemoryKind::caches), 0U);
}

TEST(CountingAllocator, LeavesForeignMemoryAlone) {
  Ledger& counts = ledger();
  float data[4] = {1, 2, 3, 4};
  const at::Tensor foreign = at::from_blob(data, {4});
  recount_as(foreign, MemoryKind::caches);
  recount_as(at::Tensor(), MemoryKind::caches);
  recount_as(at::empty({0}), MemoryKind::caches);
  EXPECT_EQ(counts.current(MemoryKind::caches), 0U);
  EXPECT_EQ(at::empty({0, 5}).numel(), 0);
}

TEST(CountingAllocator, OutOfMemoryIsAResourceError) {
  ledger();
  EXPECT_THROW(at::empty({int64_t{1} << 46}), ResourceError);
}

TEST(CountingAllocator, ExplainsTheResidentPeakWithin5Percent) {
  Ledger& counts = ledger();
  // Warm up: thread pools and kernels take some megabytes once.
  at::ones({512, 512}).matmul(at::ones({512, 512}));
  ::malloc_trim(0);
  if (!reset_peak_resident()) GTEST_SKIP() << "the peak cannot be reset here";
  const uint64_t baseline = resident_bytes() - counts.current_total();
  counts.reset_peaks();
  {
    const CountAs weights(MemoryKind::weights);
    const at::Tensor w = at::full({4096, 4096}, 0.5F);  // 67 MB
    const at::Tensor x = at::full({3000, 4096}, 2.0F);  // 49 MB
    for (int i = 0; i < 2; ++i) {
      const CountAs activations(MemoryKind::activations);
      const at::Tensor y = at::linear(x, w);
      const at::Tensor z = at::gelu(y).add(x).mul(2.0);
      EXPECT_EQ(z.size(0), 3000);
    }
  }
  const double share = explained_share(counts, baseline);
  EXPECT_GT(share, 0.95) << counts.summary();
  EXPECT_LT(share, 1.05) << counts.summary();
  EXPECT_GT(counts.peak_total(), uint64_t{200} << 20);
}

}  // namespace
}  // namespace kinora
