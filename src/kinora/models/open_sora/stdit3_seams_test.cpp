// What STDiT3 shows to the seams: its sites, its probes, and when it asks its layout.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "kinora/models/open_sora/test_stdit3.h"

namespace kinora::models {
namespace {

const char* word(Point point) { return point == Point::module ? " module" : " residual"; }

/// Writes down what passes; reuses the residuals that it kept of the call before where `from_call` says so.
class Recorder : public Policy {
 public:
  bool reuses(const SiteKey& key, const Run& run) const override {
    return run.step.call >= from_call && key.point == Point::residual;
  }
  Streams reuse(const SiteKey& key, const Run&) override { return kept.at(std::string(key.path)); }
  void keep(const SiteKey& key, const Run&, const Streams& streams) override {
    seen.push_back(std::string(key.path) + word(key.point));
    kinds.push_back(key.kind);
    blocks.push_back(key.block);
    if (key.point == Point::residual) kept[std::string(key.path)] = streams;
  }
  Streams stack(const Run& run, const Stack& s, Streams streams) override {
    num_blocks = s.blocks;
    modulated_input = s.probe(run, "modulated_input", streams);
    time_embed = s.probe(run, "time_embed", streams);
    no_probe = s.probe(run, "no such probe", streams);
    return Policy::stack(run, s, std::move(streams));
  }

  int from_call = 1, num_blocks = 0;
  std::vector<std::string> seen;
  std::vector<Kind> kinds;
  std::vector<int> blocks;
  std::map<std::string, Streams> kept;
  Tensor modulated_input, time_embed, no_probe;
};

/// Counts what a layout is asked for.
class CountingLayout : public Layout {
 public:
  Tensor local(const Tensor& whole, Axis, int) const override { return ++locals, whole; }
  Tensor whole(const Tensor& local, Axis, int, const Extent&) const override { return ++wholes, local; }
  Streams around(const kinora::Run& run, const Bracket& bracket, Streams streams,
                 c10::function_ref<Streams(const kinora::Run&, Streams)> f) const override {
    if (bracket.part == Part::attention) {
      axes.push_back(*bracket.along);
      extents.push_back(bracket.extent);
    }
    return f(run, std::move(streams));
  }
  mutable int locals = 0, wholes = 0;
  mutable std::vector<Axis> axes;
  mutable std::vector<Extent> extents;
};

TEST(STDiT3Sites, PassInTheOrderOfTheWorkModuleBeforeResidual) {
  TestSTDiT3 model;
  const Tensor want = model(stdit3_inputs());
  Recorder recorder;
  model.run.policy = &recorder;
  const Tensor got = model(stdit3_inputs());
  EXPECT_TRUE(at::equal(got, want)) << "a policy that only looks on changed the result";
  std::vector<std::string> order;
  std::vector<int> blocks;
  for (const std::string b : {"0", "1"}) {
    for (const std::string kind : {"spatial_blocks.", "temporal_blocks."}) {
      for (const std::string part : {".attn", ".cross_attn", ".mlp"}) {
        for (const std::string point : {" module", " residual"}) {
          order.push_back(kind + b + part + point);
          blocks.push_back(2 * std::stoi(b) + (kind == "temporal_blocks." ? 1 : 0));
        }
      }
    }
  }
  EXPECT_EQ(recorder.seen, order);
  EXPECT_EQ(recorder.blocks, blocks);
  EXPECT_EQ(recorder.num_blocks, 4);
  EXPECT_EQ(recorder.kinds[0], Kind::spatial);
  EXPECT_EQ(recorder.kinds[2], Kind::cross);
  EXPECT_EQ(recorder.kinds[4], Kind::mlp);
  EXPECT_EQ(recorder.kinds[6], Kind::temporal);
  EXPECT_EQ(recorder.modulated_input.sizes(), at::IntArrayRef({2, 3, 12, 16}));
  EXPECT_EQ(recorder.time_embed.sizes(), at::IntArrayRef({2, 16}));
  EXPECT_FALSE(recorder.no_probe.defined());
}

TEST(STDiT3Sites, KeepTheirBitsWithAPolicyInEveryDtype) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    TestSTDiT3 model(tiny_stdit3(), dtype);
    const Tensor want = model(stdit3_inputs());
    Recorder recorder;
    model.run.policy = &recorder;
    EXPECT_TRUE(at::equal(model(stdit3_inputs()), want)) << dtype;
  }
}

TEST(STDiT3Sites, ReusedResidualsSkipTheLayoutAndGiveTheSame) {
  TestSTDiT3 model;
  Recorder recorder;
  CountingLayout layout;
  model.run.policy = &recorder;
  model.run.layout = &layout;
  const Tensor first = model(stdit3_inputs());
  EXPECT_EQ(layout.axes, std::vector<Axis>({Axis::rows, Axis::frames, Axis::rows, Axis::frames}));
  EXPECT_EQ(layout.extents[1].frames, 3);
  EXPECT_EQ(layout.extents[1].rows, 12);
  EXPECT_EQ(layout.locals, 2 + 2 * 2);  // the patches, and two rotary tables in each temporal block
  EXPECT_EQ(layout.wholes, 2);
  layout.axes.clear();
  recorder.seen.clear();
  model.run.step.call = 1;
  EXPECT_TRUE(at::equal(model(stdit3_inputs()), first));
  EXPECT_TRUE(layout.axes.empty());
  EXPECT_TRUE(recorder.seen.empty());
}

}  // namespace
}  // namespace kinora::models
