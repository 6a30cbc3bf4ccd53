// What --cache-memory does to a request: which sites are kept, the estimate, the meter, and what is told of it.
#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/cache/registry.h"
#include "kinora/models/open_sora/work.h"
#include "kinora/tensor/allocator.h"
#include "kinora/video/pipeline.h"
#include "kinora/video/test_model.h"

namespace kinora::video {
namespace {

class CacheBudget : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    counted_ = new Ledger;  // tensors may be freed after main
    install_counting_allocator(*counted_);
    model_ = new TestModel;
    model_->write();
  }
  static void TearDownTestSuite() { delete model_; }
  static Pipeline load() {
    PipelineOptions options;
    options.paths.model = model_->folder;
    options.dtype = at::kFloat;
    return Pipeline::load(options);
  }
  static Request request(const char* cache) {
    Request asked;
    asked.prompts = {"a red ball moves right", "blue square"};
    asked.seed = 5, asked.steps = 6, asked.cache = cache;
    return asked;
  }
  static TestModel* model_;
  static Ledger* counted_;
};
TestModel* CacheBudget::model_ = nullptr;
Ledger* CacheBudget::counted_ = nullptr;

TEST_F(CacheBudget, KeepsTheMeterBelowIt) {
  Pipeline pipeline = load();
  for (const char* cache : {"pab:window=0..1000", "pab:window=0..1000,keep=int8"}) {
    Request asked = request(cache);
    asked.batch = 1;
    const Plan whole = pipeline.plan(asked);
    const uint64_t all = estimate_memory(pipeline.sizes(), whole).caches;
    asked.batch = 0, asked.cache_memory = all / 2;
    const Plan plan = pipeline.plan(asked);
    EXPECT_EQ(plan.batch, 1) << "how many sites are kept must not depend on a clip's neighbours";
    EXPECT_EQ(plan.cache_budget->all_bytes, all);
    EXPECT_LE(estimate_memory(pipeline.sizes(), plan).caches, asked.cache_memory);

    std::optional<cache::BudgetUse> told;
    std::map<std::string, cache::Hits, std::less<>> hits;
    Hooks hooks;
    hooks.on_cache = [&](const cache::Method& method) { told = method.budget(), hits = method.hits(); };
    // The caption's keys and values are kept for all steps as well, and not the cache's.
    counted_->reset_peaks();
    Request plain = request("none");
    plain.batch = 1;
    pipeline.generate(plain);
    const uint64_t without = counted_->peak(MemoryKind::caches);
    counted_->reset_peaks();
    const auto clips = pipeline.generate(plan, hooks);
    constexpr uint64_t kHeads = 64 * 2 * 64;  // the allocator's, for each of two buffers of a site
    EXPECT_LE(counted_->peak(MemoryKind::caches), without + told->bytes + kHeads);
    EXPECT_GE(counted_->peak(MemoryKind::caches), told->bytes);
    EXPECT_EQ(told->kept, plan.cache_budget->kept);
    EXPECT_LT(told->kept, told->sites);
    EXPECT_GT(told->kept, 0);
    int64_t reused = 0;
    for (const auto& [what, h] : hits) reused += h.reused;
    EXPECT_GT(reused, 0);
    EXPECT_EQ(Json::parse(clips[0].metadata.settings).at("cache_memory"), asked.cache_memory);
  }
}

TEST_F(CacheBudget, IsRefusedWhereItCannotBe) {
  Pipeline pipeline = load();
  for (const char* cache : {"none", "pab:window=0..1000", "first-block"}) {
    Request asked = request(cache);
    asked.cache_memory = 1;
    EXPECT_THROW(pipeline.plan(asked), UsageError) << cache;
  }
}

TEST(CacheBudgetOfOpenSora, IsWhatTheDocumentationSays) {
  const models::STDiT3Config config;  // XL/2
  // 51 frames of 480x848, 30 steps: the timesteps in bfloat16, as PAB sees them.
  cache::Context context{.model = "STDiT3",
                         .schedule = {1000, 992, 984, 976, 968, 960, 952, 940, 932, 920, 908, 892, 880, 864, 848,
                                      828,  808, 788, 764, 736, 708, 676, 636, 596, 548, 492, 426, 350, 258, 143},
                         .steps = 30,
                         .rows = 2 * models::stdit3_rows(config, 15, 60, 106),
                         .width = config.hidden_size,
                         .element_bytes = 2};
  for (const models::SiteWork& site : models::stdit3_sites(config, 15, 60, 106, 300))
    context.order.push_back({site.path, site.kind, site.flops});
  const auto within = [&](const char* text, uint64_t budget) {
    context.budget = budget;
    return cache::make_method(text, context)->budget().value();
  };
  const uint64_t three_gb = 3'000'000'000;
  const cache::BudgetUse plain = within("pab", three_gb), int8 = within("pab:keep=int8", three_gb);
  EXPECT_EQ(plain.all_bytes, uint64_t{122} * 109'900'800) << "attentions 12.3 GB, MLPs 1.1 GB";
  EXPECT_EQ(int8.all_bytes, uint64_t{122} * 55'141'200);
  EXPECT_EQ(cache::text_of(plain), "kept 27 of 122 sites, 29 % of the saving");
  EXPECT_EQ(cache::text_of(int8), "kept 54 of 122 sites, 54 % of the saving");
  EXPECT_EQ(plain.bytes, 27u * 109'900'800);
  context.host_for = at::Device(at::kCPU);
  const cache::BudgetUse host = within("pab", three_gb);
  EXPECT_EQ(cache::text_of(host), "kept 122 of 122 sites, 99 of them in the host's memory");
  EXPECT_EQ(host.bytes, 27u * 109'900'800) << "23 sites, and 4 values on their way";
}

}  // namespace
}  // namespace kinora::video
