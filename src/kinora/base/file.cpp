#include "kinora/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kinora/base/error.h"

namespace kinora {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLargestCall = size_t{1} << 30;  // Linux moves at most 2 GiB - 4096 bytes in one read or write

std::string reason(int error) { return std::generic_category().message(error); }

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int open_to_read(const fs::path& path, struct stat& status) {
  // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever; regular files do not care.
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) {
    const int error = errno;
    const std::string text = concat("'", path.string(), "' cannot be opened: ", reason(error));
    if (error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG) throw UsageError(text);
    throw ResourceError(text);
  }
  if (::fstat(fd.get(), &status) != 0) throw ResourceError(concat("'", path.string(), "': ", reason(errno)));
  if (!S_ISREG(status.st_mode)) {
    throw UsageError(concat("'", path.string(), "' is ", S_ISDIR(status.st_mode) ? "a folder" : "not a regular file"));
  }
  return fd.release();
}

[[noreturn]] void write_failed(const fs::path& target, int error) {
  const bool is_full = error == ENOSPC || error == EDQUOT;
  const bool is_limit = error == EFBIG;
  throw ResourceError(concat("'", target.string(), "' cannot be written: ", reason(error)),
                      is_full    ? "free some disk space or choose another folder; the old file, if any, is unchanged"
                      : is_limit ? "raise the file size limit (ulimit -f); the old file, if any, is unchanged"
                                 : "");
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

/// Where a chain of symbolic links leads, whether there is a file yet or not: a rename would replace the first link.
fs::path end_of_links(const fs::path& path) {
  fs::path end = path;
  std::error_code error;
  for (int links = 0; fs::is_symlink(fs::symlink_status(end, error)); ++links) {
    if (links == 40) {  // as many as Linux follows
      throw UsageError(concat("'", path.string(), "' is a symbolic link that leads to no end"),
                       "give the name of a file");
    }
    const fs::path next = fs::read_symlink(end, error);
    if (error) throw ResourceError(concat("the link '", end.string(), "' cannot be read: ", error.message()));
    end = end.parent_path() / next;  // an absolute one replaces the folder
  }
  return end;
}

}  // namespace

std::string read_file(const fs::path& path, uint64_t max_bytes) {
  struct stat status {};
  const Descriptor fd(open_to_read(path, status));
  const auto size = static_cast<uint64_t>(status.st_size);
  const auto refuse = [&] {
    throw DataError(concat("'", path.string(), "' is larger than the ", max_bytes, " bytes that are accepted here"));
  };
  if (size > max_bytes) refuse();
  std::string out(size + 1, '\0');  // one more than stated: the read that finds the end needs room, too
  size_t have = 0;
  // Files in /proc claim size 0 and others may grow: read until the end, not until the size.
  while (true) {
    if (have == out.size()) out.resize(std::min<uint64_t>(max_bytes + 1, have + 4096));
    if (have > max_bytes) refuse();
    const ssize_t got = ::read(fd.get(), out.data() + have, std::min(out.size() - have, kLargestCall));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw ResourceError(concat("'", path.string(), "' cannot be read: ", reason(errno)));
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  out.resize(have);
  return out;
}

AtomicFile::AtomicFile(const fs::path& target) : target_(target) {
  std::error_code ignored;
  const fs::file_status status = fs::status(target_, ignored);
  if (!target_.has_filename() || fs::is_directory(status)) {
    throw UsageError(concat("'", target_.string(), "' is a folder"), "give the name of a file");
  }
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw UsageError(concat("'", target_.string(), "' is not a regular file"), "give the name of a file");
  }
  target_ = end_of_links(target);
  if (fs::exists(status)) old_mode_ = static_cast<mode_t>(status.permissions()) & 0777;
  static std::atomic<unsigned> counter{0};
  while (true) {
    const std::string name = concat(".", target_.stem().string(), ".tmp-", ::getpid(), "-", counter++);
    temp_ = folder_of(target_) / (name + target_.extension().string());
    fd_ = ::open(temp_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, old_mode_.value_or(0666) | 0600);
    if (fd_ >= 0) return;
    // Another host on a shared disk may have the same process number.
    if (errno != EEXIST) break;
  }
  const int error = errno;
  if (error == ENAMETOOLONG) {
    throw UsageError(concat("'", target_.string(), "' cannot be written: ", reason(error)),
                     "choose a shorter name; while the file is written some 30 bytes are added to it");
  }
  throw ResourceError(concat("cannot write in folder '", folder_of(target_).string(), "': ", reason(error)),
                      error == ENOENT ? "create the folder first" : "choose a folder with room that you may write to");
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (fd_ < 0) return;
  ::close(std::exchange(fd_, -1));
  ::unlink(temp_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  KINORA_ASSERT(fd_ >= 0);
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_, bytes.data(), std::min(bytes.size(), kLargestCall));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) write_failed(target_, errno);
    num_written_ += static_cast<uint64_t>(put);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::commit() {
  KINORA_ASSERT(fd_ >= 0);
  const auto fail = [&](int error) {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    ::unlink(temp_.c_str());
    write_failed(target_, error);
  };
  // A disk without modes refuses; the file is no more open than the old one then, either.
  if (old_mode_) static_cast<void>(::fchmod(fd_, *old_mode_));
  if (::fsync(fd_) != 0) fail(errno);
  // Network disks report a failed write only here: before the rename, so that the old file stays.
  if (::close(std::exchange(fd_, -1)) != 0) fail(errno);
  if (::rename(temp_.c_str(), target_.c_str()) != 0) fail(errno);
  sync_folder(folder_of(target_));
}

void write_file(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void sync_folder(const fs::path& folder) {
  const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some network file systems cannot sync a folder and say so with EINVAL.
  if (fd.get() < 0 || (::fsync(fd.get()) != 0 && errno != EINVAL)) {
    throw ResourceError(concat("folder '", folder.string(), "' cannot be synced: ", reason(errno)),
                        "a file that has just got its name there is whole, but may be lost in a power failure");
  }
}

MappedFile::MappedFile(fs::path path) : path_(std::move(path)) {
  struct stat status {};
  Descriptor fd(open_to_read(path_, status));
  size_ = static_cast<size_t>(status.st_size);
  modified_ = status.st_mtim;
  if (size_ > 0) {
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data_ == MAP_FAILED) {
      throw ResourceError(concat("'", path_.string(), "' (", size_, " bytes) cannot be mapped: ", reason(errno)));
    }
  }
  fd_ = fd.release();
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
  ::close(fd_);
}

bool MappedFile::changed() const noexcept {
  struct stat status {};
  return ::fstat(fd_, &status) != 0 || static_cast<size_t>(status.st_size) != size_ ||
         status.st_mtim.tv_sec != modified_.tv_sec || status.st_mtim.tv_nsec != modified_.tv_nsec;
}

namespace {

// Eight tables, eight bytes a turn (Kounavis & Berry 2005): about 2 GB/s where one table gives 0.4.
using CrcTables = std::array<std::array<uint32_t, 256>, 8>;

constexpr CrcTables make_crc_tables() {
  CrcTables tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0xEDB88320U : 0U);
    tables[0][i] = value;
  }
  for (size_t table = 1; table < 8; ++table) {
    for (size_t i = 0; i < 256; ++i) {
      const uint32_t before = tables[table - 1][i];
      tables[table][i] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr CrcTables kCrc = make_crc_tables();

}  // namespace

uint32_t crc32(std::span<const std::byte> bytes, uint32_t seed) {
  uint32_t crc = ~seed;
  const auto* p = reinterpret_cast<const unsigned char*>(bytes.data());
  size_t left = bytes.size();
  for (; left >= 8; left -= 8, p += 8) {
    uint32_t low = 0;
    uint32_t high = 0;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + 4, 4);
    low ^= crc;
    crc = kCrc[7][low & 0xFF] ^ kCrc[6][(low >> 8) & 0xFF] ^ kCrc[5][(low >> 16) & 0xFF] ^ kCrc[4][low >> 24] ^
          kCrc[3][high & 0xFF] ^ kCrc[2][(high >> 8) & 0xFF] ^ kCrc[1][(high >> 16) & 0xFF] ^ kCrc[0][high >> 24];
  }
  for (; left > 0; --left, ++p) crc = (crc >> 8) ^ kCrc[0][(crc ^ *p) & 0xFF];
  return ~crc;
}

}  // namespace kinora
