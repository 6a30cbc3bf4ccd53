// Weights in their files: read when they are wanted, with plain reads in large blocks, and forgotten by the page cache
// behind them. Nothing is mapped, so a file that is cut is an error and never a signal, in whatever program.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "kinora/nn/load.h"
#include "kinora/offload/store.h"

namespace kinora::offload {

struct FileStoreOptions {
  LoadOptions load = {};     ///< dtype (of the run), prefix, surplus
  bool drops_behind = true;  ///< asks the system to forget what was read: the page cache would not hold it all anyway
  size_t block_bytes = size_t{8} << 20;  ///< of one read; types are converted in pieces of as many bytes
};

class FileStore final : public WeightStore {
 public:
  /// Throws as check_weights; DataError for a file that is not the one that the checkpoint was opened from.
  FileStore(const Params& params, const Checkpoint& checkpoint, FileStoreOptions options = {});
  ~FileStore() override;

  at::ScalarType dtype() const override { return options_.load.dtype; }
  /// Throws DataError when the file was cut or written to since it was opened, or, the first time that a parameter is
  /// read, when it holds NaN or infinity; ResourceError when the disk fails.
  uint64_t copy(const Param& param, int64_t first, const Tensor& place) override;
  uint64_t phase(const Param& param, int64_t first) const override;
  /// Asks the system to begin reading.
  void expect(std::span<const int32_t> order) override;

 private:
  struct File;
  struct Source {
    const File* file = nullptr;  ///< null: `value`
    const TensorEntry* entry = nullptr;
    Tensor value;  ///< of an optional parameter that no file has
  };
  const File* open(const SafetensorsFile& file);

  FileStoreOptions options_;
  Checkpoint checkpoint_;
  std::map<const SafetensorsFile*, std::unique_ptr<File>> files_;
  std::vector<Source> sources_;  // by id
  std::mutex mutex_;
  std::set<std::pair<int32_t, int64_t>> checked_;  // parameter and first row
  Tensor staging_;
};

}  // namespace kinora::offload
