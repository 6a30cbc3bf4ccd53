#include "kinora/parity/verify.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/parity/recipe.h"
#include "kinora/tensor/convert.h"
#include "kinora/tensor/random.h"

namespace kinora::parity {
namespace {

namespace fs = std::filesystem;

TEST(Recipe, EqualsThePublishedTable) {
  EXPECT_EQ(fnv1a64("pos_embed.proj.weight"), 0x11b836ab56d4ff82u);
  EXPECT_EQ(fnv1a64("norm.weight"), 0xe45e883176c5ce0fu);
  EXPECT_EQ(fnv1a64("input.input_ids"), 0x7dd08ac4bd4d4f58u);
  EXPECT_EQ(recipe_bits(0x11b836ab56d4ff82, 0), 4111245u);
  EXPECT_EQ(recipe_bits(0x11b836ab56d4ff82, 1), 2937939u);
  EXPECT_EQ(recipe_bits(0x11b836ab56d4ff82, 2), 16436491u);
  const auto same = [](const Tensor& got, std::vector<double> want) {
    return at::equal(got, at::tensor(want, at::kDouble).to(got.scalar_type()));
  };
  EXPECT_TRUE(same(recipe_real("pos_embed.proj.weight", {3}, 0.25),
                   {-0.12747535109519958, -0.16244259476661682, 0.23984560370445251}));
  EXPECT_TRUE(
      same(recipe_real("norm.weight", {3}, 0.1, 1), {0.9525895118713379, 0.9053829312324524, 1.0141046047210693}));
  EXPECT_TRUE(same(recipe_ints("input.input_ids", {3}, 2, 120), {95, 104, 12}));
}

TEST(Recipe, ShapeOnlyFoldsTheRow) {
  EXPECT_TRUE(at::equal(recipe_real("x", {3, 5}).flatten(), recipe_real("x", {15})));
  EXPECT_EQ(recipe_real("x", {}).dim(), 0);
  EXPECT_EQ(recipe_real("x", {0, 7}).numel(), 0);
}

TEST(Recipe, RefusesSizesAndRangesThatCannotBe) {
  EXPECT_THROW(recipe_real("x", {-1}), DataError);
  EXPECT_THROW(recipe_real("x", {1 << 20, 1 << 20, 1 << 30}), DataError);
  EXPECT_THROW(recipe_ints("x", {3}, 5, 5), DataError);
  EXPECT_THROW(recipe_ints("x", {3}, 0, int64_t{1} << 60), DataError);
}

class ParityTest : public testing::Test {
 protected:
  /// A case of the class Scale: y = w * x, in float64, [3, 7] stored whole, and z = its sums as a JSON value.
  static Json scale_meta() {
    const Tensor y = scaled();
    return {
        {"cls", "Scale"},
        {"call", "forward"},
        {"config", Json::object()},
        {"weights", {{{"name", "w"}, {"shape", {7}}, {"scale", 0.5}, {"shift", 1.0}}}},
        {"inputs",
         {{"x", {{"recipe", {{"shape", {3, 7}}, {"scale", 2.0}, {"shift", 0.0}}}}}, {"plain", {{"value", {1, 2.5}}}}}},
        {"outputs",
         {{"y", {{"shape", {3, 7}}, {"tensor", "output.y"}, {"stride", 1}, {"norm", y.norm().item<double>()}}},
          {"z", {{"value", {{"sum", y.sum().item<double>()}, {"rows", 3}, {"name", "scale"}}}}}}},
        {"tolerance", {{"rtol", 1e-4}}}};
  }
  static Tensor scaled() {
    return recipe_real("input.x", {3, 7}, 2).to(at::kDouble) * recipe_real("w", {7}, 0.5, 1).to(at::kDouble);
  }

  fs::path write(const std::string& name, const Json& meta, const Tensor& y) const {
    const fs::path file = folder_ / name;
    fs::create_directories(file.parent_path());
    save_tensors(file, {{"output.y", y}}, {{"case", meta.dump()}});
    return file;
  }
  fs::path write_scale(const std::string& name) const { return write(name, scale_meta(), scaled().to(at::kFloat)); }

  static Outputs run_scale(const Case& c) {
    Params params;
    const Param w = Scope(params).param("w", {7});
    ResidentWeights weights = c.weights(params);
    Outputs out;
    out.tensors["y"] = c.input("x") * weights.get(w);
    out.values["z"] = {{"sum", out.tensors["y"].sum().item<double>()}, {"rows", 3}, {"name", "scale"}};
    return out;
  }
  static Registry registry(Runner runner = run_scale) {
    Registry made;
    made.add("Scale", "forward", std::move(runner));
    return made;
  }

  std::string run(const Registry& runners, int exit_code, const VerifyOptions& options = {}) const {
    std::ostringstream out;
    const std::vector<fs::path> paths{folder_};
    EXPECT_EQ(verify(paths, options, runners, out).exit_code(), exit_code) << out.str();
    return out.str();
  }

  const TempFolder temp_;
  const fs::path folder_ = temp_.path();
};

TEST_F(ParityTest, PassesWhatTheReferenceComputed) {
  write_scale("one.safetensors");
  write_scale("deeper/two.safetensors");
  EXPECT_EQ(run(registry(), 0), "2 passed, 0 failed, 0 skipped\n");
}

TEST_F(ParityTest, FailsAWeightThatTheModelLacks) {
  Json meta = scale_meta();
  meta["weights"].push_back({{"name", "extra.weight"}, {"shape", {2}}});
  write("extra.safetensors", meta, scaled().to(at::kFloat));
  EXPECT_NE(run(registry(), 1).find("extra.weight"), std::string::npos);
}

TEST_F(ParityTest, FailsAToleranceThatComparesNothing) {
  for (const double rtol : {1e9, 0.02, -1e-4}) {
    Json meta = scale_meta();
    meta["tolerance"]["rtol"] = rtol;
    write("loose.safetensors", meta, scaled().to(at::kFloat));
    EXPECT_NE(run(registry(), 1).find("tolerance"), std::string::npos) << rtol;
  }
}

TEST_F(ParityTest, SaysThatAFolderHasNoCase) {
  EXPECT_NE(run(registry(), 1).find("there is no case"), std::string::npos);
}

TEST_F(ParityTest, FailsAnAlteredExpectedValueAndNamesIt) {
  Tensor y = scaled().to(at::kFloat);
  y[1][2] += 0.01;
  write("altered.safetensors", scale_meta(), y);
  const std::string text = run(registry(), 1);
  EXPECT_NE(text.find("altered.safetensors (Scale.forward): y: error "), std::string::npos) << text;
  EXPECT_NE(text.find("0 passed, 1 failed, 0 skipped\n"), std::string::npos) << text;
}

TEST_F(ParityTest, FailsAnAlteredNorm) {
  Json meta = scale_meta();
  meta["outputs"]["y"]["norm"] = meta["outputs"]["y"]["norm"].get<double>() * 1.001;
  write("norm.safetensors", meta, scaled().to(at::kFloat));
  EXPECT_NE(run(registry(), 1).find("y: norm off by"), std::string::npos);
}

TEST_F(ParityTest, FailsAlteredJson) {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, Json>>{{"sum", 1e9}, {"rows", 4}, {"name", "scales"}}) {
    Json meta = scale_meta();
    meta["outputs"]["z"]["value"][key] = value;
    write("json.safetensors", meta, scaled().to(at::kFloat));
    EXPECT_NE(run(registry(), 1).find("z." + key), std::string::npos) << key;
  }
}

TEST_F(ParityTest, ComparesEveryStridethElementAndTheNormOfAll) {
  Json meta = scale_meta();
  meta["outputs"]["y"]["stride"] = 5;
  const Tensor kept = scaled().flatten().slice(0, 0, c10::nullopt, 5).to(at::kFloat);
  ASSERT_EQ(kept.numel(), 5);
  write("strided.safetensors", meta, kept);
  run(registry(), 0);
  // Between the stored elements only the norm sees a difference.
  run(registry([](const Case& c) {
        Outputs out = run_scale(c);
        out.tensors["y"][0][1] += 1.0;
        return out;
      }),
      1);
}

TEST_F(ParityTest, FailsNanInfinityShapesAndWhatIsMissing) {
  write_scale("one.safetensors");
  const auto reason = [&](const std::function<void(Outputs&)>& spoil) {
    return run(registry([&](const Case& c) {
                 Outputs out = run_scale(c);
                 spoil(out);
                 return out;
               }),
               1);
  };
  EXPECT_NE(reason([](Outputs& out) { out.tensors["y"][2][3] = std::nan(""); }).find("y: not finite"),
            std::string::npos);
  EXPECT_NE(reason([](Outputs& out) { out.tensors["y"][2][3] = HUGE_VAL; }).find("y: not finite"), std::string::npos);
  EXPECT_NE(reason([](Outputs& out) { out.tensors["y"] = out.tensors["y"].t(); }).find("y: shape [7, 3]"),
            std::string::npos);
  EXPECT_NE(reason([](Outputs& out) { out.tensors.clear(); }).find("y: not computed"), std::string::npos);
  EXPECT_NE(reason([](Outputs& out) { out.tensors["y"] = Tensor(); }).find("y: not computed"), std::string::npos);
  EXPECT_NE(reason([](Outputs& out) { out.values.clear(); }).find("z: not computed"), std::string::npos);
  EXPECT_NE(reason([](Outputs& out) { out.values["z"]["sum"] = std::nan(""); }).find("z.sum"), std::string::npos);
}

TEST_F(ParityTest, IntegersAreExact) {
  Json meta = scale_meta();
  meta["outputs"].erase("z");
  const Tensor whole = at::arange(1000000, 1000021, at::kLong).view({3, 7});
  meta["outputs"]["y"]["norm"] = whole.to(at::kDouble).norm().item<double>();
  write("ints.safetensors", meta, whole);
  const auto give = [](int64_t added) {
    return registry([added](const Case&) {
      Outputs out;
      out.tensors["y"] = at::arange(1000000, 1000021, at::kLong).view({3, 7});
      out.tensors["y"][1][1] += added;
      return out;
    });
  };
  run(give(0), 0);
  EXPECT_NE(run(give(1), 1).find("1 of 21 integers differ"), std::string::npos);
}

TEST_F(ParityTest, ResultsAreExactButMeasuresTo1e3) {
  Json meta = scale_meta();
  meta["results"] = {{"computed", {"110", "101"}}, {"diff", {nullptr, 1.5}}};
  write("results.safetensors", meta, scaled().to(at::kFloat));
  const auto give = [](Json results) {
    return registry([results](const Case& c) {
      Outputs out = run_scale(c);
      out.results = results;
      return out;
    });
  };
  run(give({{"computed", {"110", "101"}}, {"diff", {nullptr, 1.501}}}), 0);
  EXPECT_NE(run(give({{"computed", {"110", "111"}}, {"diff", {nullptr, 1.5}}}), 1).find("results.computed[1]"),
            std::string::npos);
  EXPECT_NE(run(give({{"computed", {"110", "101"}}, {"diff", {nullptr, 1.51}}}), 1).find("results.diff[1]"),
            std::string::npos);
  EXPECT_NE(run(give({{"computed", {"110", "101"}}}), 1).find("results.diff: not computed"), std::string::npos);
  EXPECT_NE(run(give(nullptr), 1).find("results.computed: not computed"), std::string::npos);
}

TEST_F(ParityTest, SkipsAndNamesOnceWhatThisBuildDoesNotKnow) {
  write_scale("known.safetensors");
  Json meta = scale_meta();
  meta["cls"] = "Other";
  write("a.safetensors", meta, scaled().to(at::kFloat));
  write("b.safetensors", meta, scaled().to(at::kFloat));
  meta["cls"] = "Scale";
  meta["call"] = {{"method", "backward"}};
  write("c.safetensors", meta, scaled().to(at::kFloat));
  EXPECT_EQ(run(registry(), 0),
            "skipped, not in this build: Other.forward (2), Scale.backward (1)\n1 passed, 0 failed, 3 skipped\n");
  EXPECT_EQ(run(Registry(), 1).find("1 passed"), std::string::npos);  // nothing passed: no proof of anything
}

TEST_F(ParityTest, RequireFailsWhenTheClassDidNotRun) {
  write_scale("one.safetensors");
  VerifyOptions options;
  options.require = {"Scale"};
  run(registry(), 0, options);
  options.require = {"Scale", "STDiT3"};
  EXPECT_EQ(run(registry(), 1, options), "required but did not run: STDiT3\n1 passed, 0 failed, 0 skipped\n");
}

TEST_F(ParityTest, FailsFilesThatAreCutOrNoCases) {
  const fs::path whole = write_scale("whole.safetensors");
  std::ifstream in(whole, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  in.close();
  fs::remove(whole);
  for (const size_t size : {size_t{0}, size_t{5}, size_t{8}, size_t{100}, bytes.size() - 1}) {
    std::ofstream(folder_ / "cut.safetensors", std::ios::binary) << bytes.substr(0, size);
    EXPECT_NE(run(registry(), 1).find("0 passed, 1 failed, 0 skipped"), std::string::npos) << size;
  }
  std::ofstream(folder_ / "cut.safetensors", std::ios::binary) << bytes;
  save_tensors(folder_ / "plain.safetensors", {{"x", at::ones({2})}});
  EXPECT_NE(run(registry(), 1).find("no parity case"), std::string::npos);
}

TEST_F(ParityTest, FailsCasesThatBreakTheFormat) {
  const auto broken = [&](const std::function<void(Json&)>& spoil) {
    Json meta = scale_meta();
    spoil(meta);
    write("broken.safetensors", meta, scaled().to(at::kFloat));
    EXPECT_NE(run(registry(), 1).find("0 passed, 1 failed, 0 skipped"), std::string::npos) << meta;
  };
  broken([](Json& m) { m.erase("cls"); });
  broken([](Json& m) { m.erase("call"); });
  broken([](Json& m) { m.erase("outputs"); });
  broken([](Json& m) { m["outputs"] = Json::object(); });
  broken([](Json& m) { m["outputs"]["y"]["tensor"] = "elsewhere"; });
  broken([](Json& m) { m["outputs"]["y"]["shape"] = {3, 8}; });
  broken([](Json& m) { m["outputs"]["y"]["stride"] = 0; });
  broken([](Json& m) { m["inputs"]["x"]["recipe"]["shape"] = {1 << 20, 1 << 20}; });
  broken([](Json& m) { m["inputs"].erase("x"); });
  broken([](Json& m) { m["weights"] = Json::array(); });
  broken([](Json& m) { m["weights"][0]["shape"] = {8}; });
  broken([](Json& m) { m["weights"][0] = "w"; });
  broken([](Json& m) { m = Json::array(); });
}

TEST_F(ParityTest, ARunnerThatThrowsFailsWithItsReason) {
  write_scale("one.safetensors");
  EXPECT_NE(run(registry([](const Case&) -> Outputs { throw DataError("no such head count"); }), 1)
                .find(": no such head count\n"),
            std::string::npos);
  // ATen's own errors come with a stack trace of many lines.
  const std::string text = run(registry([](const Case& c) -> Outputs {
                                 return {{{"y", c.input("x").view({5})}}, {}, {}};
                               }),
                               1);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
}

TEST_F(ParityTest, JsonHoldsEveryCase) {
  write_scale("one.safetensors");
  VerifyOptions options;
  options.json = true;
  const Json report = Json::parse(run(registry(), 0, options));
  EXPECT_EQ(report["passed"], 1);
  EXPECT_EQ(report["cases"][0]["class"], "Scale");
  EXPECT_LT(report["cases"][0]["error"].get<double>(), 1e-6);
}

TEST_F(ParityTest, ACancelledRunEndsBeforeTheNextCase) {
  write_scale("one.safetensors");
  std::stop_source stop;
  stop.request_stop();
  VerifyOptions options;
  options.cancel = stop.get_token();
  std::ostringstream out;
  const std::vector<fs::path> paths{folder_};
  EXPECT_THROW(verify(paths, options, registry(), out), CancelledError);
  EXPECT_EQ(out.str(), "");
}

TEST_F(ParityTest, APathThatDoesNotExistIsRefused) {
  const std::vector<fs::path> paths{folder_ / "nowhere"};
  EXPECT_THROW(case_files(paths), UsageError);
}

TEST_F(ParityTest, InputsComeInTheCasesDtype) {
  Json meta = scale_meta();
  meta["call"] = {{"method", "forward"}, {"dtype", "float32"}, {"seed", 42}};
  meta["inputs"]["ids"] = {{"recipe", {{"shape", {5}}, {"low", 2}, {"high", 120}}}};
  meta["inputs"]["mask"] = {{"value", {{1, 0, 1}, {0, 0, 1}}}, {"dtype", "int64"}};
  meta["inputs"]["stored"] = {{"tensor", "output.y"}};
  meta["inputs"]["ragged"] = {{"value", {{1, 2}, {3}}}};
  const Case c = read_case(write("one.safetensors", meta, scaled().to(at::kFloat)));
  EXPECT_EQ(c.dtype(), at::kFloat);
  EXPECT_EQ(c.input("x").scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(c.input("plain"), at::tensor({1.0, 2.5}, at::kFloat)));
  EXPECT_EQ(c.input("ids").scalar_type(), at::kLong);
  EXPECT_EQ(c.input("mask").scalar_type(), at::kLong);
  EXPECT_EQ(c.input("mask").sizes(), at::IntArrayRef({2, 3}));
  EXPECT_EQ(c.input("stored").sizes(), at::IntArrayRef({3, 7}));
  EXPECT_EQ(c.value("plain"), Json({1, 2.5}));
  EXPECT_TRUE(c.has_input("ids"));
  EXPECT_FALSE(c.has_input("idz"));
  EXPECT_THROW(c.input("idz"), DataError);
  EXPECT_THROW(c.input("ragged"), DataError);
  EXPECT_THROW(c.value("ids"), DataError);
  at::Generator from_case = c.generator();
  at::Generator by_hand = cpu_generator(42);
  EXPECT_TRUE(at::equal(randn({17}, from_case), randn({17}, by_hand)));
  EXPECT_THROW(read_case(write_scale("plain.safetensors")).generator(), DataError);
}

TEST_F(ParityTest, WeightsThatAreNotListedNeedAReason) {
  Json meta = scale_meta();
  const auto weights = [&](const ParamOptions& options, const std::string& prefix = "") {
    const Case c = read_case(write("one.safetensors", meta, scaled().to(at::kFloat)));
    Params params;
    const Scope scope(params);
    if (prefix.empty()) scope.param("w", {7});
    scope.param("decoder.v", {5}, options);
    return c.weights(params, prefix).tensors();
  };
  EXPECT_THROW(weights({}), DataError);
  EXPECT_TRUE(at::equal(weights({init::ones, true, true})[1], at::ones({5}, at::kDouble)));
  meta["call"] = {{"method", "encode"}, {"only", {"encoder.", "quant_conv."}}};
  EXPECT_TRUE(weights({})[1].isnan().all().item<bool>());
  meta["call"] = {{"method", "decode"}, {"only", {"decoder."}}};
  EXPECT_THROW(weights({}), DataError);
  meta["weights"].push_back({{"name", "vae.decoder.v"}, {"shape", {5}}, {"scale", 0.1}, {"shift", 0}});
  EXPECT_TRUE(at::equal(weights({}, "vae.")[0], recipe_real("vae.decoder.v", {5}, 0.1).to(at::kDouble)));
  EXPECT_THROW(weights({init::ones, true, true}), DataError) << "the model has no vae.decoder.v";
}

TEST(Registry, HoldsOneRunnerForAPair) {
  Registry runners;
  runners.add("A", "forward", [](const Case&) { return Outputs{}; });
  EXPECT_THROW(runners.add("A", "forward", [](const Case&) { return Outputs{}; }), std::logic_error);
  EXPECT_NE(runners.find("A", "forward"), nullptr);
  EXPECT_EQ(runners.find("A", "backward"), nullptr);
}

TEST(Registry, EveryRunnerOfThisBuildIsThere) {
  const Registry runners = all_runners();
  for (const auto& [cls, method] :
       {std::pair("torch.Generator", "draws"), std::pair("RFLOW", "timesteps"), std::pair("T5Tokenizer", "forward"),
        std::pair("structural_similarity", "frames")}) {
    EXPECT_NE(runners.find(cls, method), nullptr) << cls;
  }
}

}  // namespace
}  // namespace kinora::parity
