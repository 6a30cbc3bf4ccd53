// `kinora verify`: runs parity cases and compares what the engine computes with what the public references did.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <map>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "kinora/parity/registry.h"

namespace kinora::parity {

struct VerifyOptions {
  std::vector<std::string> require;  ///< classes of which at least one case must run
  bool json = false;                 ///< print one JSON object in place of lines
  std::stop_token cancel;            ///< looked at before each case
};

enum class Outcome { kPassed, kFailed, kSkipped };

struct Comparison {
  double error = 0;    ///< the largest relative distance over the outputs
  std::string reason;  ///< empty: within tolerance; else the first output that is not, and by how much
};

/// README "Comparing": ||got - want|| <= rtol ||want|| over the stored elements, and the norms of the whole outputs
/// agree to rtol; shapes, integers, text and results exactly, JSON floats to rtol (and 1e-9), results.diff and
/// results.calibration to 1e-3. NaN and infinity fail.
Comparison compare(const Case& parity_case, const Outputs& got);

struct CaseReport {
  std::filesystem::path file;
  std::string cls, method;  ///< empty when the file could not be read
  Outcome outcome = Outcome::kSkipped;
  Comparison comparison;
};

struct Summary {
  std::vector<CaseReport> cases;     ///< in the order of the paths, folders sorted by name
  std::vector<std::string> missing;  ///< required classes of which no case ran
  size_t num(Outcome outcome) const;
  /// What this build does not know, "class.method", with the number of cases.
  std::map<std::string, size_t> unknown() const;
  /// 0; 1 on any failure, when nothing passed, and when a required class did not run.
  int exit_code() const;
};

/// Runs one case; never throws: what is thrown becomes the reason.
CaseReport verify_case(const std::filesystem::path& file, const Registry& registry);

/// The case files among `paths`; folders are walked for *.safetensors. Throws UsageError when a path does not exist.
std::vector<std::filesystem::path> case_files(std::span<const std::filesystem::path> paths);

/// Runs every case and prints: a line per failing case as it fails, what was skipped or is missing, and last
/// `N passed, N failed, N skipped`. Throws as case_files(), and CancelledError.
Summary verify(std::span<const std::filesystem::path> paths, const VerifyOptions& options, const Registry& registry,
               std::ostream& out);

/// verify() with every runner of this build. Returns the exit code.
int run_verify(std::span<const std::filesystem::path> paths, const VerifyOptions& options, std::ostream& out);

}  // namespace kinora::parity
