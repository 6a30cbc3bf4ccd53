#include "kinora/offload/file_store.h"

#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "kinora/base/error.h"
#include "kinora/tensor/convert.h"
#include "kinora/tensor/random.h"

namespace kinora::offload {
namespace {

constexpr size_t kLengthBytes = 8;  // of a safetensors header's length, little endian

}  // namespace

/// A descriptor of its own: reads at any place, by any thread.
struct FileStore::File {
  std::filesystem::path path;
  int fd = -1;
  struct stat opened {};
  uint64_t data_begin = 0;

  explicit File(std::filesystem::path p) : path(std::move(p)) {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ::fstat(fd, &opened) != 0) fail(errno);
  }
  ~File() {
    if (fd >= 0) ::close(fd);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[noreturn]] void fail(int error) const {
    throw ResourceError(concat("'", path.string(), "' cannot be read: ", std::generic_category().message(error)));
  }
  [[noreturn]] void refuse_change() const {
    throw DataError(concat("'", path.string(), "' was changed while it was in use"),
                    "leave the model's files alone while the program runs");
  }
  void check_unchanged() const {
    struct stat now {};
    if (::fstat(fd, &now) != 0) fail(errno);
    const bool same = now.st_size == opened.st_size && now.st_mtim.tv_sec == opened.st_mtim.tv_sec &&
                      now.st_mtim.tv_nsec == opened.st_mtim.tv_nsec;
    if (!same) refuse_change();
  }
  void read(uint64_t offset, std::byte* to, size_t bytes) const {
    while (bytes > 0) {
      const ssize_t n = ::pread(fd, to, bytes, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(errno);
      if (n == 0) refuse_change();  // it ends before its own header says so
      to += n, offset += static_cast<uint64_t>(n), bytes -= static_cast<size_t>(n);
    }
  }
  void advise(uint64_t offset, uint64_t bytes, int advice) const {
    ::posix_fadvise(fd, static_cast<off_t>(offset), static_cast<off_t>(bytes), advice);  // a hint: its failure is none
  }
};

FileStore::FileStore(const Params& params, const Checkpoint& checkpoint, FileStoreOptions options)
    : options_(std::move(options)), checkpoint_(checkpoint) {
  const auto found = find_weights(params, checkpoint_, options_.load);
  const at::NoGradGuard no_grad;
  at::Generator generator = cpu_generator(0);  // as load_weights
  for (const Param& p : params) {
    const CheckpointTensor* tensor = found[static_cast<size_t>(p.id)];
    Source source;
    if (tensor != nullptr) {
      source.file = open(*tensor->file);
      source.entry = tensor->entry;
    } else {
      source.value = at::empty(p.shape, at::kFloat);
      params.options(p.id).init(source.value, generator);
    }
    sources_.push_back(std::move(source));
  }
}

FileStore::~FileStore() = default;

const FileStore::File* FileStore::open(const SafetensorsFile& file) {
  std::unique_ptr<File>& known = files_[&file];
  if (known) return known.get();
  auto opened = std::make_unique<File>(file.path());
  const auto size = static_cast<uint64_t>(opened->opened.st_size);
  const auto read_head = [&](uint64_t bytes) {
    std::vector<std::byte> head(std::min(bytes, size));
    opened->read(0, head.data(), head.size());
    return head;
  };
  const std::vector<std::byte> length_bytes = read_head(kLengthBytes);
  uint64_t length = 0;
  for (size_t i = length_bytes.size(); i-- > 0;) length = length << 8 | static_cast<uint64_t>(length_bytes[i]);
  const auto header =
      parse_safetensors_header(read_head(kLengthBytes + std::min(length, size)), size, file.path().string());
  if (!std::equal(header.tensors.begin(), header.tensors.end(), file.tensors().begin(), file.tensors().end())) {
    opened->refuse_change();
  }
  opened->data_begin = header.data_begin;
  return (known = std::move(opened)).get();
}

uint64_t FileStore::copy(const Param& param, int64_t first, const Tensor& place) {
  const at::NoGradGuard no_grad;
  const Source& source = sources_.at(static_cast<size_t>(param.id));
  if (source.file == nullptr) {
    copy_rows(source.value, first, place);
    return place.nbytes();
  }
  const at::ScalarType type = to_scalar_type(source.entry->dtype);
  const auto element = static_cast<uint64_t>(c10::elementSize(type));
  const uint64_t bytes = static_cast<uint64_t>(place.numel()) * element;
  const uint64_t row_bytes = place.dim() == 0 ? 0 : bytes / static_cast<uint64_t>(std::max<int64_t>(place.size(0), 1));
  const uint64_t begin = source.file->data_begin + source.entry->begin + static_cast<uint64_t>(first) * row_bytes;
  const Tensor flat = place.flatten();
  const bool is_direct = type == place.scalar_type() && place.is_cpu();
  const auto at_once = static_cast<int64_t>(std::max<uint64_t>(options_.block_bytes / element, 1));
  const std::lock_guard lock(mutex_);
  const bool is_new = checked_.emplace(param.id, first).second;
  if (!is_direct && (!staging_.defined() || staging_.scalar_type() != type)) staging_ = at::empty({at_once}, type);
  for (int64_t i = 0; i < flat.numel(); i += at_once) {
    const Tensor piece = flat.narrow(0, i, std::min(at_once, flat.numel() - i));
    const Tensor read = is_direct ? piece : staging_.narrow(0, 0, piece.numel());
    source.file->read(begin + static_cast<uint64_t>(i) * element, static_cast<std::byte*>(read.mutable_data_ptr()),
                      read.nbytes());
    source.file->check_unchanged();
    if (is_new) check_finite(read, source.entry->name, source.file->path);
    if (!is_direct) piece.copy_(read);
  }
  if (options_.drops_behind) source.file->advise(begin, bytes, POSIX_FADV_DONTNEED);
  return bytes;
}

uint64_t FileStore::phase(const Param& param, int64_t first) const {
  const Source& source = sources_.at(static_cast<size_t>(param.id));
  const bool is_viewed = source.file != nullptr && to_scalar_type(source.entry->dtype) == dtype();
  if (!is_viewed) return 0;
  const uint64_t element = c10::elementSize(dtype()), begin = source.file->data_begin + source.entry->begin;
  if (begin % element != 0) return 0;  // load_tensor copies it
  const auto rows =
      static_cast<uint64_t>(first == 0 ? 0 : first * (c10::multiply_integers(param.shape) / param.shape[0]));
  return (begin + rows * element) % kPhaseBytes;
}

void FileStore::expect(std::span<const int32_t> order) {
  for (const int32_t id : order) {
    const Source& source = sources_.at(static_cast<size_t>(id));
    if (source.file == nullptr) continue;
    source.file->advise(source.file->data_begin + source.entry->begin, source.entry->num_bytes(), POSIX_FADV_WILLNEED);
  }
}

}  // namespace kinora::offload
