// Room on a disk, asked for before the work rather than in the middle of it.
#pragma once

#include <cstdint>
#include <filesystem>

namespace kinora {

/// Throws ResourceError naming both sizes when the disk of `folder` has less than this free for the user. A disk that does
/// not tell, and a folder that is not there, are left to what is done there next.
void check_space(const std::filesystem::path& folder, uint64_t bytes);

}  // namespace kinora
