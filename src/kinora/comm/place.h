// Which of how many ranks this process was started as, told by the variables of whoever started it.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace kinora::comm {

/// The value of a variable, or nullptr: std::getenv, or a test's own.
using Variables = std::function<const char*(const char*)>;

struct Place {
  int rank = 0, size = 1;
  std::string starter;  ///< "mpirun", "srun" or "torchrun"
};

/// Nothing when the process was started alone. mpirun, srun and torchrun are known, the innermost first. Throws
/// UsageError for values that cannot be: no numbers, or a rank that is none of the ranks.
std::optional<Place> find_place(const Variables& variables);

/// KINORA_DEADLINE in seconds, 0.001 .. 86400, or the fallback. Throws UsageError.
std::chrono::milliseconds deadline_or(const Variables& variables, std::chrono::milliseconds fallback);

/// KINORA_COMM_CHECK: "always" is true, "first" or unset is false. Throws UsageError.
bool checks_always(const Variables& variables);

}  // namespace kinora::comm
