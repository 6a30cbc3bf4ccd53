#include "kinora/nn/load.h"

#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/tensor/convert.h"

namespace kinora {
namespace {

namespace fs = std::filesystem;

class LoadWeights : public ::testing::Test {
 protected:
  LoadWeights() {
    const Scope root(params_);
    (root / "fc").param("weight", {3, 5}), (root / "fc").param("bias", {3});
  }

  Checkpoint file(const NamedTensors& tensors) {
    const fs::path path = folder_ / concat("weights", count_++, ".safetensors");
    save_tensors(path, tensors);
    return Checkpoint(path);
  }

  /// What load_weights says, "" where it says nothing.
  std::string complaint(const NamedTensors& tensors, const LoadOptions& options = {}) {
    try {
      load_weights(params_, file(tensors), options);
    } catch (const DataError& e) {
      return e.what();
    }
    return {};
  }

  static NamedTensors right() { return {{"fc.weight", at::randn({3, 5})}, {"fc.bias", at::randn({3})}}; }

  const TempFolder temp_;
  const fs::path folder_ = temp_.path();
  int count_ = 0;
  Params params_;
};

void expect_has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST_F(LoadWeights, ReadsEveryParameterByName) {
  const NamedTensors tensors = right();
  ResidentWeights weights = load_weights(params_, file({tensors[1], tensors[0]}));
  EXPECT_TRUE(weights.get(params_[0]).equal(tensors[0].second));
  EXPECT_TRUE(weights.get(params_[1]).equal(tensors[1].second));
}

TEST_F(LoadWeights, ViewsTheFileWhereTheDtypeAgreesAndCopiesElse) {
  const Checkpoint checkpoint = file(right());
  Ledger ledger;
  {
    ResidentWeights weights = load_weights(params_, checkpoint, {.ledger = &ledger});
    const auto bytes = checkpoint.files()[0]->bytes(*checkpoint.require("fc.weight").entry);
    EXPECT_EQ(weights.get(params_[0]).const_data_ptr(), static_cast<const void*>(bytes.data()));
    EXPECT_EQ(ledger.current(MemoryKind::mapped), (15 + 3) * sizeof(float));
  }
  EXPECT_EQ(ledger.current(MemoryKind::mapped), 0U);
  ResidentWeights half = load_weights(params_, checkpoint, {.dtype = at::kBFloat16, .ledger = &ledger});
  EXPECT_EQ(half.get(params_[0]).scalar_type(), at::kBFloat16);
  EXPECT_EQ(ledger.current(MemoryKind::mapped), 0U);
}

TEST_F(LoadWeights, NamesWhatIsMissingMisshapenAndSurplusAtOnce) {
  const std::string text = complaint({{"fc.weight", at::zeros({5, 3})}, {"fc.extra", at::zeros({1})}});
  expect_has(text, "1 tensor is missing (fc.bias)");
  expect_has(text, "1 tensor is misshapen (fc.weight is [5, 3], not [3, 5])");
  expect_has(text, "1 tensor is not known to the model (fc.extra)");
}

TEST_F(LoadWeights, ListsTheFirstFiveOfManyNames) {
  NamedTensors tensors = right();
  for (int i = 0; i < 7; ++i) tensors.emplace_back(concat("more.", i), at::zeros({1}));
  const std::string text = complaint(tensors);
  expect_has(text, "7 tensors are not known to the model");
  expect_has(text, "more.4, ...)");
  EXPECT_EQ(text.find("more.5"), std::string::npos);
}

TEST_F(LoadWeights, NamesTheTensorThatIsNotFiniteAndItsFile) {
  for (const double value : {std::nan(""), static_cast<double>(INFINITY)}) {
    NamedTensors tensors = right();
    tensors[1].second[2] = value;
    const std::string file = concat("weights", count_, ".safetensors"), text = complaint(tensors);
    expect_has(text, "\"fc.bias\"");
    expect_has(text, file);
  }
}

TEST_F(LoadWeights, PrefixSelectsThePartOfACheckpoint) {
  const NamedTensors tensors = right();
  const NamedTensors both{
      {"model.fc.weight", tensors[0].second}, {"model.fc.bias", tensors[1].second}, {"vae.fc.weight", at::zeros({1})}};
  ResidentWeights weights = load_weights(params_, file(both), {.prefix = "model."});
  EXPECT_TRUE(weights.get(params_[1]).equal(tensors[1].second));
  expect_has(complaint(both), "missing");
}

TEST_F(LoadWeights, AliasesAreTriedWhereThePublishedNameIsAbsent) {
  const Scope root(params_);
  (root / "attention" / "to_out" / 0).also_at(root / "attention" / "proj").param("weight", {2});
  NamedTensors tensors = right();
  tensors.emplace_back("attention.proj.weight", at::ones({2}));
  EXPECT_TRUE(load_weights(params_, file(tensors)).get(params_[2]).equal(at::ones({2})));
  tensors.emplace_back("attention.to_out.0.weight", at::zeros({2}));
  EXPECT_TRUE(load_weights(params_, file(tensors)).get(params_[2]).equal(at::zeros({2})));
}

TEST_F(LoadWeights, SurplusNamesThatAreExpectedMayBeLeftOver) {
  NamedTensors tensors = right();
  tensors.emplace_back("decoder", at::zeros({1}));
  EXPECT_EQ(complaint(tensors, {.surplus = {"decoder"}}), "");
  expect_has(complaint(tensors, {.surplus = {"other"}}), "decoder");
}

TEST_F(LoadWeights, OptionalParametersTakeTheirInitWhereTheyAreAbsent) {
  Scope(params_).param("scale", {2}, {.init = init::ones, .optional = true});
  NamedTensors tensors = right();
  EXPECT_TRUE(load_weights(params_, file(tensors)).get(params_[2]).equal(at::ones({2})));
  tensors.emplace_back("scale", at::full({2}, 7.0f));
  EXPECT_TRUE(load_weights(params_, file(tensors)).get(params_[2]).equal(at::full({2}, 7.0f)));
  tensors.back().second = at::zeros({3});
  expect_has(complaint(tensors), "misshapen");
}

}  // namespace
}  // namespace kinora
