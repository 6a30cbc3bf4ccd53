#include "kinora/offload/file_store.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kinora/base/error.h"
#include "kinora/base/test_folder.h"
#include "kinora/offload/pace_of.h"
#include "kinora/offload/streamed.h"
#include "kinora/offload/toy_model.h"
#include "kinora/tensor/convert.h"

namespace kinora::offload {
namespace {

using test::kAll;
using test::ToyModel;

constexpr int kBlocks = 6;

class FromFile : public testing::Test {
 protected:
  FromFile() { at::set_num_threads(1); }
  /// Saves the model's values, `dtype` in the file.
  Checkpoint saved(at::ScalarType dtype) {
    NamedTensors named;
    for (const Param& p : model.params()) named.emplace_back(p.name, values[static_cast<size_t>(p.id)].to(dtype));
    save_tensors(file, named);
    return Checkpoint(file);
  }
  StreamPlan plan(int resident, int slots = 2) const {
    return stream_with(model.params(), sizeof(double), resident, slots, kAll);
  }
  FileStore store_of(const Checkpoint& checkpoint, at::ScalarType dtype = at::kDouble, size_t block = 1000) const {
    return FileStore(model.params(), checkpoint, {.load = {.dtype = dtype}, .block_bytes = block});
  }

  const ToyModel model{kBlocks};
  std::vector<Tensor> values = model.values();
  const Tensor x = normal({2, 7, 24}, 3);
  const TempFolder folder;
  const std::filesystem::path file = folder / "model.safetensors";
};

TEST_F(FromFile, EqualsLoadedWeightsInEveryPairOfTypes) {
  for (const at::ScalarType stored : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const Checkpoint checkpoint = saved(stored);
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      ResidentWeights resident = load_weights(model.params(), checkpoint, {.dtype = dtype});
      FileStore store = store_of(checkpoint, dtype);
      StreamedWeights weights(model.params(), plan(1), store, {.poisons = true});
      for (int pass = 0; pass < 2; ++pass) {
        EXPECT_TRUE(model({.weights = &weights}, x.to(dtype)).equal(model({.weights = &resident}, x.to(dtype))))
            << stored << " as " << dtype;
      }
    }
  }
}

TEST_F(FromFile, RowsAreThoseOfTheWhole) {
  const Checkpoint checkpoint = saved(at::kFloat);
  FileStore store = store_of(checkpoint);
  const Param& p = model.params()[model.id("blocks.1.mlp.fc1.weight")];
  const Tensor rows = at::empty({5, p.shape[1]}, at::kDouble);
  EXPECT_EQ(store.copy(p, 31, rows), 5u * 24 * 4);  // as they are in the file
  EXPECT_TRUE(rows.equal(values[static_cast<size_t>(p.id)].to(at::kFloat).to(at::kDouble).narrow(0, 31, 5)));
}

TEST_F(FromFile, AFileThatIsCutWhileInUseIsAnError) {
  const Checkpoint checkpoint = saved(at::kDouble);
  FileStore store = store_of(checkpoint);
  StreamedWeights weights(model.params(), plan(0), store, {.poisons = true});
  model({.weights = &weights}, x);
  std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  EXPECT_THROW(
      {
        for (int pass = 0; pass < 2; ++pass) model({.weights = &weights}, x);  // what was read before may still do
      },
      DataError);
}

TEST_F(FromFile, AFileThatIsWrittenToWhileInUseIsAnError) {
  const Checkpoint checkpoint = saved(at::kDouble);
  FileStore store = store_of(checkpoint);
  const Param& p = model.params()[0];
  const Tensor place = at::empty(p.shape, at::kDouble);
  store.copy(p, 0, place);
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(-8, std::ios::end).write("12345678", 8);
  EXPECT_THROW(store.copy(p, 0, place), DataError);
}

TEST_F(FromFile, AnotherFileUnderTheNameIsRefused) {
  const Checkpoint checkpoint = saved(at::kDouble);
  save_tensors(file, {{"other", at::ones({3})}});
  EXPECT_THROW(store_of(checkpoint), DataError);
  std::filesystem::remove(file);
  EXPECT_THROW(store_of(checkpoint), ResourceError);
}

TEST_F(FromFile, ValuesThatAreNotFiniteAreNamed) {
  const int32_t id = model.id("blocks.2.mlp.fc2.weight");
  values[static_cast<size_t>(id)] = at::full_like(values[static_cast<size_t>(id)], INFINITY);
  const Checkpoint checkpoint = saved(at::kFloat);
  FileStore store = store_of(checkpoint);
  StreamedWeights weights(model.params(), plan(0), store);
  try {
    model({.weights = &weights}, x);
    FAIL() << "infinite weights were used";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("blocks.2.mlp.fc2.weight"), std::string::npos) << error.what();
  }
}

/// Disk -> a ring and a fixed set in the host's memory -> a ring on the device, all of them throttled.
TEST_F(FromFile, DiskAndLinkAndDeviceMeetTheLowerBound) {
  const Checkpoint checkpoint = saved(at::kDouble);
  ResidentWeights resident = load_weights(model.params(), checkpoint, {.dtype = at::kDouble});
  const Tensor want = model({.weights = &resident}, x);
  const auto block = static_cast<double>((24 * 24 + 2 * 24 * 48) * sizeof(double));
  struct Case {
    double disk, link, compute;  // seconds of a block
    int in_host;
  };
  for (const Case& c : {Case{0.040, 0.015, 0.010, 2}, Case{0.015, 0.030, 0.010, 0}, Case{0.015, 0.020, 0.030, 3}}) {
    FileStore file_store = store_of(checkpoint, at::kDouble, size_t{8} << 20);
    ThrottledStore disk(file_store, block / c.disk);
    StreamedWeights host(model.params(), plan(c.in_host), disk, {.poisons = true});
    SourceStore staged(host, file_store);
    ThrottledStore link(staged, block / c.link);
    StreamedWeights weights(model.params(), plan(0), link, {.poisons = true});
    const StepBound bound{.compute_seconds = kBlocks * c.compute,
                          .bytes = kBlocks * block,
                          .host_bytes = c.in_host * block,
                          .link_rate = block / c.link,
                          .disk_rate = block / c.disk};
    Pace device;  // begins a block when all of its weights are there
    const auto pass = [&] {
      const Tensor y = model({.weights = &weights}, x, [&](int) { device.spend(c.compute, Pace::Clock::now()); });
      EXPECT_TRUE(y.equal(want));
    };
    pass();  // the host's ring learns the order in which the device's ring asks
    const double pace = test::pace_of(pass, 2, 1.05 * bound.seconds());
    test::expect_near_bound(concat("disk ", c.disk, " link ", c.link, " compute ", c.compute, " in host ", c.in_host),
                            pace, bound.seconds());
  }
}

}  // namespace
}  // namespace kinora::offload
