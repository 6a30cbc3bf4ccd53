#include "kinora/train/stage.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "kinora/base/error.h"
#include "kinora/base/file.h"
#include "kinora/base/log.h"
#include "kinora/base/test_folder.h"
#include "kinora/nn/layers.h"

namespace kinora::train {
namespace {

namespace fs = std::filesystem;

class RunStage : public ::testing::Test {
 protected:
  RunStage() {
    set_log_sink([](LogLevel, std::string_view) {});
  }
  ~RunStage() override { set_log_sink({}); }
  std::vector<std::string> table() const {
    std::ifstream file(folder_ / "loss.csv");
    std::vector<std::string> rows;
    for (std::string row; std::getline(file, row);) rows.push_back(row);
    return rows;
  }
  const TempFolder temp_;
  const fs::path folder_ = temp_ / "run";
};

/// A bfloat16 linear layer that learns a fixed map of random inputs, its matrix by Muon.
struct Tiny {
  Tiny() : layer(Scope(params), 5, 3), trainable(params, init_weights(params, 1), at::kBFloat16, at::kCPU, options()) {}
  static OptimizerOptions options() {
    return {.lr = 0.03, .weight_decay = 0.01, .ema_decay = 0.9, .muon_lr = 0.03, .use_muon = [](const Param&) {
              return true;
            }};
  }
  Tensor loss(const Part& part) {
    Run run;
    run.weights = &trainable.weights(part.index);
    const Tensor x =
        at::randn({part.batch, 5}, part.generator, at::TensorOptions().dtype(at::kFloat)).to(at::kBFloat16);
    return (layer(run, x) - x.narrow(1, 0, 3) - 1).to(at::kFloat).square().mean();
  }
  StageResult train(const StageOptions& stage, const StageHooks& hooks,
                    std::function<Tensor(int64_t, const Tensor&)> change = {}) {
    return run_stage(
        stage, {&trainable},
        [&](const Part& part) {
          const Tensor value = loss(part);
          return change ? change(part.step, value) : value;
        },
        hooks);
  }
  Params params;
  Linear layer;
  Trainable trainable;
};

StageOptions forty() { return {.name = "tiny", .steps = 40, .batch = 16, .warmup_steps = 5, .seed = 3}; }

void expect_same(const Tiny& a, const Tiny& b) {
  const auto left = a.trainable.state(""), right = b.trainable.state("");
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i) EXPECT_TRUE(left[i].second.equal(right[i].second)) << left[i].first;
}

TEST_F(RunStage, LearnsAndWritesATableAndAPictureOfLosses) {
  Tiny model;
  StageOptions stage = forty();
  stage.steps = 200;
  std::vector<int64_t> saved;
  const StageResult result =
      model.train(stage, {.folder = folder_, .on_checkpoint = [&](int64_t step) { saved.push_back(step); }});
  EXPECT_LT(result.loss, 0.1);
  EXPECT_EQ(result.skipped, 0);
  EXPECT_EQ(saved, std::vector<int64_t>{200});
  EXPECT_EQ(table().size(), 201U);
  EXPECT_NE(read_file(folder_ / "loss.svg", 1 << 20).find("mean of 50"), std::string::npos);
}

TEST_F(RunStage, ResumedEqualsUninterruptedBitForBit) {
  Tiny whole, first, second;
  whole.train(forty(), {.folder = folder_ / "whole"});
  std::stop_source stop;
  const StageHooks cut{.folder = folder_ / "cut", .cancel = stop.get_token()};
  EXPECT_THROW(first.train(forty(), cut,
                           [&](int64_t step, const Tensor& value) {
                             if (step == 19) stop.request_stop();
                             return value;
                           }),
               CancelledError);
  int64_t begins = -1;
  second.train(forty(), {.folder = folder_ / "cut"}, [&](int64_t step, const Tensor& value) {
    if (begins < 0) begins = step;
    return value;
  });
  EXPECT_EQ(begins, 20);
  expect_same(whole, second);
}

TEST_F(RunStage, ResumedTableHasEachStepOnce) {
  Tiny first, second;
  StageOptions stage = forty();
  stage.steps = 10;
  first.train(stage, {.folder = folder_});
  // What a run leaves that is killed behind its last checkpoint.
  std::ofstream(folder_ / "loss.csv", std::ios::app) << "11,0.5,1,1\n12,0.5,1,1\n";
  stage.steps = 13;
  second.train(stage, {.folder = folder_});
  std::vector<int64_t> steps;
  for (const std::string& row : table()) steps.push_back(std::strtoll(row.c_str(), nullptr, 10));
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}));
}

TEST_F(RunStage, TableOrFolderThatCannotBeWrittenIsAnError) {
  Tiny model;
  fs::create_directories(folder_ / "a" / "loss.csv");
  EXPECT_THROW(model.train(forty(), {.folder = folder_ / "a"}), Error);
  std::ofstream(folder_ / "file") << "";
  EXPECT_THROW(model.train(forty(), {.folder = folder_ / "file" / "inside"}), ResourceError);
}

TEST_F(RunStage, PartsGiveTheSameBitsOnAnyNumberOfThreads) {
  StageOptions stage = forty();
  stage.parts = 4;
  std::mutex mutex;
  std::set<std::thread::id> threads;
  const int before = at::get_num_threads();
  Tiny together, apart;
  at::set_num_threads(4);
  together.train(stage, {.folder = folder_ / "together"}, [&](int64_t, const Tensor& value) {
    EXPECT_EQ(at::get_num_threads(), 1);
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
    return value;
  });
  EXPECT_EQ(at::get_num_threads(), 4);
  EXPECT_EQ(threads.count(std::this_thread::get_id()), 0U);
  at::set_num_threads(2);
  apart.train(stage, {.folder = folder_ / "apart"});
  at::set_num_threads(before);
  expect_same(together, apart);
}

TEST_F(RunStage, PartsDrawNumbersOfTheirOwn) {
  Tiny model;
  StageOptions stage = forty();
  stage.steps = 3, stage.parts = 4;
  std::mutex mutex;
  std::set<double> drawn;
  run_stage(stage, {&model.trainable},
            [&](const Part& part) {
              const double number = at::rand({1}, part.generator, at::kDouble).item<double>();
              const std::lock_guard lock(mutex);
              drawn.insert(number);
              return model.loss(part);
            },
            {.folder = folder_});
  EXPECT_EQ(drawn.size(), 12U);
}

TEST_F(RunStage, GradientOfPartsIsThatOfTheWholeBatch) {
  const Tensor x = at::linspace(-1, 1, 16 * 5, at::kFloat).view({16, 5});
  const auto gradients = [&](int64_t parts) {
    Tiny model;
    StageOptions stage = forty();
    stage.steps = 1;
    stage.parts = parts;
    run_stage(stage, {&model.trainable},
              [&](const Part& part) {
                const kinora::Run run{.weights = &model.trainable.weights(part.index)};
                return model.layer(run, x.narrow(0, part.index * part.batch, part.batch).to(at::kBFloat16))
                    .to(at::kFloat)
                    .square()
                    .mean();
              },
              {.folder = folder_ / std::to_string(parts)});
    return model.trainable.state("");
  };
  const auto one = gradients(1), four = gradients(4);
  for (size_t i = 0; i < one.size(); ++i)
    EXPECT_TRUE(at::allclose(one[i].second.to(at::kFloat), four[i].second.to(at::kFloat), 0.02, 1e-3)) << one[i].first;
}

TEST_F(RunStage, ErrorInAPartIsThrownByTheStage) {
  Tiny model;
  StageOptions stage = forty();
  stage.parts = 2;
  EXPECT_THROW(
      model.train(stage, {.folder = folder_}, [](int64_t, const Tensor&) -> Tensor { throw DataError("of a part"); }),
      DataError);
}

TEST_F(RunStage, FinishedStageIsReadBackAndNotRunAgain) {
  Tiny model, again;
  model.train(forty(), {.folder = folder_});
  again.train(forty(), {.folder = folder_},
              [](int64_t, const Tensor&) -> Tensor { throw std::logic_error("a step was run"); });
  expect_same(model, again);
}

TEST_F(RunStage, CancelledBeforeTheFirstStepStillLeavesACheckpoint) {
  Tiny model;
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(model.train(forty(), {.folder = folder_, .cancel = stop.get_token()}), CancelledError);
  EXPECT_TRUE(fs::exists(folder_ / "step-1.json"));
}

TEST_F(RunStage, StepThatIsNotFiniteIsSkippedAndLeavesTheWeights) {
  Tiny model;
  StageOptions stage = forty();
  stage.steps = 8;
  Tensor before;
  const auto weight = [&] { return model.trainable.state("")[0].second.clone(); };
  const StageResult result = model.train(stage, {.folder = folder_}, [&](int64_t step, const Tensor& value) {
    if (step == 3) before = weight();
    if (step == 4) {
      EXPECT_TRUE(weight().equal(before));
    }
    return step == 3 ? value * std::nan("") : value;
  });
  EXPECT_EQ(result.skipped, 1);
  EXPECT_TRUE(std::isfinite(result.loss)) << "a skipped step has no loss to speak of";
  EXPECT_TRUE(at::isfinite(weight()).all().item<bool>());
}

TEST_F(RunStage, TwoBadStepsInARowAreEnduredAndThreeAreNot) {
  StageOptions stage = forty();
  stage.steps = 12;
  const auto bad = [](std::vector<int64_t> steps) {
    return [steps](int64_t step, const Tensor& value) {
      return std::find(steps.begin(), steps.end(), step) == steps.end() ? value : value * INFINITY;
    };
  };
  Tiny endures, stops;
  EXPECT_EQ(endures.train(stage, {.folder = folder_ / "a"}, bad({2, 3, 5, 6})).skipped, 4);
  EXPECT_THROW(stops.train(stage, {.folder = folder_ / "b"}, bad({2, 3, 4})), DataError) << "nothing to go back to";
  EXPECT_FALSE(fs::exists(folder_ / "b" / "step-12.json"));
}

TEST_F(RunStage, GoesBackToTheCheckpointAndLeavesOutTheBatchesSince) {
  StageOptions stage = forty();
  stage.steps = 12;
  stage.checkpoint_seconds = 0;  // each step, but none whose loss is not finite
  // The number that each step's batch begins with, when the loss of the first `bad` calls from step 5 on is not finite.
  const auto batches = [&](const fs::path& folder, int bad) {
    std::map<int64_t, double> first;
    Tiny tiny;
    const auto loss = [&](const Part& part) {
      first[part.step] = at::rand({1}, part.generator, at::TensorOptions().dtype(at::kDouble)).item<double>();
      const Tensor value = tiny.loss(part);
      return part.step >= 5 && bad > 0 ? (--bad, value * NAN) : value;
    };
    run_stage(stage, {&tiny.trainable}, loss, {.folder = folder});
    return first;
  };
  auto plain = batches(folder_ / "plain", 0), back = batches(folder_, 3);
  ASSERT_EQ(back.size(), 12u);
  for (int64_t step = 0; step < 5; ++step) EXPECT_EQ(back[step], plain[step]);
  for (int64_t step = 5; step + 3 < 12; ++step) EXPECT_EQ(back[step], plain[step + 3]);
  ASSERT_EQ(table().size(), 13u) << "the head, and each step once";
  for (size_t row = 1; row < 13; ++row) EXPECT_EQ(table()[row].rfind(std::to_string(row) + ",", 0), 0u);
}

TEST_F(RunStage, TwiceBackToTheSameCheckpointIsTheEnd) {
  StageOptions stage = forty();
  stage.checkpoint_seconds = 0;
  int calls = 0;
  const auto breaks = [&](int64_t step, const Tensor& value) { return step >= 5 ? (++calls, value * NAN) : value; };
  const StageHooks hooks{.folder = folder_};
  Tiny tiny;
  EXPECT_THROW(tiny.train(stage, hooks, breaks), DataError);
  EXPECT_EQ(calls, 6) << "three, back, three";
  EXPECT_TRUE(fs::exists(folder_ / "step-5.safetensors"));
}

TEST(LrFactor, WarmsUpHoldsAndFallsLinearly) {
  const StageOptions o{.steps = 100, .warmup_steps = 4, .decay_from = 0.6, .final_factor = 0.1};
  EXPECT_DOUBLE_EQ(lr_factor(o, 0), 1.0 / 5);
  EXPECT_DOUBLE_EQ(lr_factor(o, 3), 4.0 / 5);
  EXPECT_DOUBLE_EQ(lr_factor(o, 4), 1.0);
  EXPECT_DOUBLE_EQ(lr_factor(o, 60), 1.0);
  EXPECT_NEAR(lr_factor(o, 80), 0.55, 1e-12);
  EXPECT_NEAR(lr_factor(o, 100), 0.1, 1e-12);
  for (int64_t s = 61; s < 100; ++s) EXPECT_LT(lr_factor(o, s), lr_factor(o, s - 1));
  EXPECT_DOUBLE_EQ(lr_factor({.steps = 10, .warmup_steps = 0, .decay_from = 1.0}, 9), 1.0);
}

TEST(StageOptions, ReadsItsKeysAndRefusesWrongOnes) {
  const Json json = {{"steps", 7}, {"batch", 3}, {"lr", 0.5}, {"beta2", 0.99}, {"checkpoint_seconds", 5}};
  const StageOptions o = StageOptions::from_json(JsonObject(json, "stage"), "name");
  EXPECT_EQ(o.name, "name");
  EXPECT_EQ(o.steps, 7);
  EXPECT_EQ(o.batch, 3);
  EXPECT_EQ(o.optimizer.lr, 0.5);
  EXPECT_EQ(o.optimizer.beta2, 0.99);
  EXPECT_EQ(o.checkpoint_seconds, 5);
  const Json seeded = {{"steps", 7}, {"seed", 4}};
  EXPECT_EQ(StageOptions::from_json(JsonObject(json, "stage"), "name", 9).seed, 9);
  EXPECT_EQ(StageOptions::from_json(JsonObject(seeded, "stage"), "name", 9).seed, 4);
  for (const Json& wrong :
       {Json::object(), Json{{"steps", 0}}, Json{{"steps", 5}, {"lr", "fast"}}, Json{{"steps", 5}, {"batch", 0}},
        Json{{"steps", 5}, {"batch", 6}, {"parts", 4}}, Json{{"steps", 5}, {"batch", 1 << 30}},
        Json{{"steps", 5}, {"clip_norm", 0}}, Json{{"steps", 5}, {"lr", 0}}, Json{{"steps", 5}, {"beta2", 1}},
        Json{{"steps", 5}, {"ema_decay", 1}}, Json{{"steps", 5}, {"decay_from", 1.1}},
        Json{{"steps", 5}, {"final_factor", -0.1}}, Json{{"steps", 5}, {"muon_lr", -1}},
        Json{{"steps", 5}, {"weight_decay", -1}}, Json{{"steps", 5}, {"checkpoint_seconds", -1}}}) {
    EXPECT_THROW(StageOptions::from_json(JsonObject(wrong, "stage"), "name"), DataError) << wrong;
  }
}

}  // namespace
}  // namespace kinora::train
