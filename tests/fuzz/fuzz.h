// What every fuzz target shares. A target takes any bytes: a reader may refuse them with an error of ours, and what it
// accepts must hold together. Everything else (a crash, another exception, a promise broken) is a finding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "kinora/base/error.h"

namespace kinora::fuzz {

/// Ends the process when a promise of the reader does not hold: libFuzzer and the replay both count that as a finding.
inline void promise(bool kept, const char* what) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

/// Runs `read`; an error with which the room refuses bad bytes or bad arguments is what should happen. A bug of ours or
/// one of the machine goes on.
template <typename Read>
void refuse_or(Read read) {
  try {
    read();
  } catch (const DataError&) {
  } catch (const UsageError&) {
  }
}

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace kinora::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
