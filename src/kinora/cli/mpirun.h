// The process that has the ranks: mpirun, its streams, its end, and the end of everything that it started.
#pragma once

#include <sys/types.h>

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kinora::cli {

/// In a process group of its own, so that Ctrl-C reaches us alone; it ends when we do. The destructor ends it, and whatever
/// its ranks have left running on this host.
class Mpirun {
 public:
  /// `variables` replace ours. Throws ResourceError.
  Mpirun(const std::filesystem::path& program, const std::vector<std::string>& arguments,
         const std::vector<std::pair<std::string, std::string>>& variables);
  ~Mpirun();
  Mpirun(const Mpirun&) = delete;
  Mpirun& operator=(const Mpirun&) = delete;

  /// What it writes: standard output, standard error.
  const std::array<int, 2>& fds() const { return fds_; }
  void signal(int number) const;
  /// Its exit code once it has ended; 128 + n when signal n ended it.
  std::optional<int> ended();

 private:
  pid_t pid_ = -1;
  std::array<int, 2> fds_{-1, -1};
};

}  // namespace kinora::cli
