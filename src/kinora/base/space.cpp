#include "kinora/base/space.h"

#include "kinora/base/error.h"
#include "kinora/base/memory.h"

namespace kinora {

void check_space(const std::filesystem::path& folder, uint64_t bytes) {
  std::error_code failed;
  const std::filesystem::space_info space = std::filesystem::space(folder, failed);
  if (failed || space.capacity == 0 || space.available >= bytes) return;
  throw ResourceError(concat("the disk of '", folder.string(), "' has ", human_bytes(space.available), " free; ",
                             human_bytes(bytes), " are needed"),
                      "free some disk space or choose another folder; the old file, if any, is unchanged");
}

}  // namespace kinora
