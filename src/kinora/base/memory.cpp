#include "kinora/base/memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>

namespace kinora {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// The number behind "key" in a file of lines such as "MemAvailable:  1234 kB" or "inactive_file 1234".
std::optional<uint64_t> field(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string name;
    uint64_t value = 0;
    if (!(words >> name >> value) || name != key) continue;
    std::string unit;
    return words >> unit && unit == "kB" ? value * 1024 : value;
  }
  return std::nullopt;
}

// A file that holds one number; "max" (no limit) and a missing file give nothing.
std::optional<uint64_t> number(const fs::path& file) {
  std::ifstream in(file);
  uint64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

struct CgroupNames {
  const char* limit;
  const char* usage;
  const char* reclaimable;  // key in memory.stat
};

// What the group at `path` below `mount`, and each group above it, leaves.
uint64_t cgroup_room(const fs::path& mount, fs::path path, const CgroupNames& names) {
  uint64_t room = kUnlimited;
  while (true) {
    const fs::path folder = mount / path.relative_path();
    const auto limit = number(folder / names.limit);
    const auto usage = number(folder / names.usage);
    if (limit && usage) {
      // File pages that nobody used lately are dropped before anyone runs out.
      const uint64_t cached = std::min(field(folder / "memory.stat", names.reclaimable).value_or(0), *usage);
      const uint64_t held = *usage - cached;
      room = std::min(room, *limit > held ? *limit - held : 0);
    }
    if (!path.has_relative_path()) return room;
    path = path.parent_path();
  }
}

uint64_t cgroups_room(const fs::path& root) {
  const fs::path base = root / "sys/fs/cgroup";
  // In a container the path may name a group that is not visible there; the mount's own root is always looked at.
  uint64_t room = kUnlimited;
  std::ifstream in(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const fs::path path = line.substr(second + 1);
    if (controllers == ",,") {
      room = std::min(room, cgroup_room(base, path, {"memory.max", "memory.current", "inactive_file"}));
    } else if (controllers.find(",memory,") != std::string::npos) {
      room = std::min(room, cgroup_room(base / "memory", path,
                                        {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}));
    }
  }
  return room;
}

}  // namespace

uint64_t resident_bytes() { return field("/proc/self/status", "VmRSS:").value_or(0); }

uint64_t peak_resident_bytes() { return field("/proc/self/status", "VmHWM:").value_or(0); }

bool reset_peak_resident() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5" << std::flush;
  return out.good();
}

uint64_t available_memory_bytes(const fs::path& root) {
  uint64_t available = field(root / "proc/meminfo", "MemAvailable:").value_or(kUnlimited);
  available = std::min(available, cgroups_room(root));
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    const uint64_t held = field(root / "proc/self/status", "VmSize:").value_or(0);
    available = std::min<uint64_t>(available, limit.rlim_cur > held ? limit.rlim_cur - held : 0);
  }
  return available;
}

std::string human_bytes(uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " B";
  constexpr std::array kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes) / 1000.0;
  size_t unit = 0;
  // 999.95 would print as 1000.0.
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000.0;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", value, kUnits[unit]);
  return text.data();
}

}  // namespace kinora
