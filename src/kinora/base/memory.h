// What the operating system says about memory (Linux: /proc and cgroups, version 1 and 2).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace kinora {

/// Resident bytes of this process: anonymous memory and touched pages of mapped files; 0 where /proc is missing.
uint64_t resident_bytes();
/// The highest value so far.
uint64_t peak_resident_bytes();
/// Starts the peak anew at the current value; false where the kernel refuses.
bool reset_peak_resident();

/// Bytes that this process can still take: the least of the machine's MemAvailable, what every cgroup on the way up
/// leaves (its reclaimable file pages count as free), and the address space limit (ulimit -v). Resident bytes plus this
/// is the ceiling of the process. `root` is prepended to /proc and /sys paths, for tests.
uint64_t available_memory_bytes(const std::filesystem::path& root = "/");

/// "512 B", "9.1 kB", "1.2 MB", "6.0 GB" (powers of 1000).
std::string human_bytes(uint64_t bytes);

}  // namespace kinora
