#include "kinora/comm/place.h"

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"

namespace kinora::comm {
namespace {

struct Starter {
  const char* name;
  const char* sign;  ///< set by it alone: a batch script of Slurm has SLURM_PROCID too, and is no rank
  const char* rank;
  const char* size;
};

constexpr Starter kStarters[] = {
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"torchrun", "TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"},
    {"srun", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
};

int number(const Variables& variables, const char* name) {
  const char* text = variables(name);
  int value = -1;
  if (text != nullptr) {
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
    if (error == std::errc() && *end == '\0' && value >= 0) return value;
  }
  throw UsageError(concat(name, text == nullptr ? " is not set" : concat(" is '", printable(text), "', no number")),
                   "start ranks with kinora launch, mpirun or srun");
}

}  // namespace

std::optional<Place> find_place(const Variables& variables) {
  for (const Starter& s : kStarters) {
    if (variables(s.sign) == nullptr) continue;
    const Place place{number(variables, s.rank), number(variables, s.size), s.name};
    if (place.rank >= place.size)
      throw UsageError(concat(s.rank, "=", place.rank, " is none of the ", place.size, " ranks of ", s.size),
                       "start ranks with kinora launch, mpirun or srun");
    return place;
  }
  return std::nullopt;
}

std::chrono::milliseconds deadline_or(const Variables& variables, std::chrono::milliseconds fallback) {
  const char* text = variables("KINORA_DEADLINE");
  if (text == nullptr || *text == '\0') return fallback;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (*end != '\0' || !(seconds >= 0.001 && seconds <= 86400))
    throw UsageError(concat("KINORA_DEADLINE is '", printable(text), "'"), "choose 0.001 to 86400 seconds");
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

bool checks_always(const Variables& variables) {
  const char* text = variables("KINORA_COMM_CHECK");
  const std::string_view value = text == nullptr ? "" : text;
  if (value.empty() || value == "first") return false;
  if (value == "always") return true;
  throw UsageError(concat("KINORA_COMM_CHECK is '", printable(value), "'"), "choose always or first");
}

}  // namespace kinora::comm
