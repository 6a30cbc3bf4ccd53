// Which LibTorch runs. Its classes change from version to version, and a program that was compiled with the headers of
// one reads memory of another wrongly: nothing may be done with it.
#pragma once

#include <string>

namespace kinora {

/// "2.11.0": of the headers that this build was made with, and of the library that the process has loaded.
std::string built_libtorch();
std::string running_libtorch();

/// Throws ResourceError naming both when they differ.
void check_libtorch(const std::string& built, const std::string& running);
inline void check_libtorch() { check_libtorch(built_libtorch(), running_libtorch()); }

}  // namespace kinora
