// A folder for one test's files.
#pragma once

#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <iterator>
#include <string>

#include "kinora/base/error.h"

namespace kinora {

/// Of a name that no other test has; goes away with all that is in it.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "kinora-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw ResourceError("no temporary folder");
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  /// Files and folders in it, hidden ones too.
  int64_t count() const {
    return std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator());
  }

 private:
  std::filesystem::path path_;
};

}  // namespace kinora
