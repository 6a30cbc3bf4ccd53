// For tests: how well the ledger explains the process.
#pragma once

#include "kinora/base/memory.h"
#include "kinora/tensor/ledger.h"

namespace kinora {

/// (baseline + counted peak) / peak resident bytes; 1 is exact, below 1 the process took memory that nobody counted.
/// `baseline_resident` is resident_bytes() before the work, when the ledger was empty; reset_peak_resident() there makes
/// the two peaks cover the same time.
inline double explained_share(const Ledger& ledger, uint64_t baseline_resident) {
  return static_cast<double>(baseline_resident + ledger.peak_total()) / static_cast<double>(peak_resident_bytes());
}

}  // namespace kinora
