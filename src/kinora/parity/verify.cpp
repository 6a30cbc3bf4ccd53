#include "kinora/parity/verify.h"

#include <algorithm>
#include <cmath>
#include <ostream>
#include <set>

#include "kinora/base/error.h"

namespace kinora::parity {
namespace {

namespace fs = std::filesystem;

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string sizes(at::IntArrayRef shape) { return concat(shape); }

/// Relative distance of `got` from `want`; an exact zero is only close to zero.
double relative(double distance, double want) {
  if (distance == 0) return 0;
  return want > 0 ? distance / want : HUGE_VAL;
}

struct Comparer {
  const Case& parity_case;
  Comparison result;

  void note(double error, const std::string& reason) {
    // An error that is no number must not lose against a small one.
    if (!(error <= result.error)) result.error = error;
    if (result.reason.empty()) result.reason = reason;
  }

  void tensor(const std::string& name, const Expected& want, const Tensor& got) {
    if (!got.defined()) return note(HUGE_VAL, concat(name, ": not computed"));
    if (got.sizes() != at::IntArrayRef(want.shape)) {
      return note(HUGE_VAL,
                  concat(name, ": shape ", sizes(got.sizes()), " where the reference has ", sizes(want.shape)));
    }
    const Tensor flat = got.detach().to(at::kCPU).reshape({-1});
    const Tensor kept = want.stride == 1 ? flat : flat.slice(0, 0, c10::nullopt, want.stride);
    if (!at::isFloatingType(want.stored.scalar_type())) {
      // float64 holds what a float output can be; integers keep their 64 bits.
      const at::ScalarType common = at::isFloatingType(kept.scalar_type()) ? at::kDouble : at::kLong;
      const int64_t wrong = at::ne(kept.to(common), want.stored.to(common)).sum().item<int64_t>();
      if (wrong > 0) return note(HUGE_VAL, concat(name, ": ", wrong, " of ", kept.numel(), " integers differ"));
    }
    const Tensor whole = flat.to(at::kDouble);
    if (!at::isfinite(whole).all().item<bool>()) return note(HUGE_VAL, concat(name, ": not finite"));
    const Tensor expected = want.stored.to(at::kDouble);
    const double distance =
        relative((kept.to(at::kDouble) - expected).norm().item<double>(), expected.norm().item<double>());
    const double norm = relative(std::abs(whole.norm().item<double>() - want.norm), std::abs(want.norm));
    check(name, "error", distance);
    check(name, "norm off by", norm);
  }

  void check(const std::string& name, const char* what, double error) {
    if (error <= parity_case.rtol) {
      result.error = std::max(result.error, error);
    } else {
      note(error, concat(name, ": ", what, " ", error, " > ", parity_case.rtol));
    }
  }

  /// rtol 0: floats exactly too.
  void json(const std::string& path, const Json& want, const Json& got, double rtol, double atol) {
    if (want.is_number() && got.is_number()) {
      if (!want.is_number_float() && !got.is_number_float()) {
        if (want != got) note(HUGE_VAL, concat(path, ": ", got.dump(), " where the reference has ", want.dump()));
        return;
      }
      const double a = want.get<double>();
      const double b = got.get<double>();
      const double distance = std::abs(a - b);
      const double error = relative(distance, std::max(std::abs(a), std::abs(b)));
      if (a == b || distance <= rtol * std::max(std::abs(a), std::abs(b)) + atol) {
        if (distance > atol) result.error = std::max(result.error, error);
        return;
      }
      return note(error, concat(path, ": ", b, " where the reference has ", a));
    }
    if (want.is_array() && got.is_array() && want.size() == got.size()) {
      for (size_t i = 0; i < want.size(); ++i) json(concat(path, "[", i, "]"), want[i], got[i], rtol, atol);
      return;
    }
    if (want.is_object() && got.is_object() && want.size() == got.size()) {
      for (const auto& [key, value] : want.items()) {
        const auto found = got.find(key);
        if (found == got.end()) return note(HUGE_VAL, concat(path, ".", key, ": not computed"));
        json(concat(path, ".", key), value, *found, rtol, atol);
      }
      return;
    }
    if (want != got) note(HUGE_VAL, concat(path, ": ", shorten(got), " where the reference has ", shorten(want)));
  }

  static std::string shorten(const Json& value) {
    std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > 100) text = text.substr(0, 97) + "...";
    return text;
  }

  void results(const Json& got) {
    if (parity_case.results.is_null()) return;
    for (const auto& [key, want] : parity_case.results.items()) {
      const auto found = got.is_object() ? got.find(key) : got.end();
      if (found == got.end()) {
        note(HUGE_VAL, concat("results.", key, ": not computed"));
        continue;
      }
      // Both are stored rounded to five digits.
      const bool measured = key == "diff" || key == "calibration";
      json(concat("results.", key), want, *found, measured ? 1e-3 : 0, measured ? 1e-5 : 0);
    }
  }
};

Json to_json(const Summary& summary) {
  constexpr const char* kOutcomes[] = {"passed", "failed", "skipped"};
  Json cases = Json::array();
  for (const CaseReport& report : summary.cases) {
    Json entry{{"file", report.file.string()},
               {"class", report.cls},
               {"method", report.method},
               {"outcome", kOutcomes[static_cast<int>(report.outcome)]}};
    if (report.outcome != Outcome::kSkipped) {
      const double error = report.comparison.error;
      entry["error"] = std::isfinite(error) ? Json(error) : Json(nullptr);
    }
    if (!report.comparison.reason.empty()) entry["reason"] = report.comparison.reason;
    cases.push_back(std::move(entry));
  }
  return {{"passed", summary.num(Outcome::kPassed)},
          {"failed", summary.num(Outcome::kFailed)},
          {"skipped", summary.num(Outcome::kSkipped)},
          {"unknown", summary.unknown()},
          {"missing", summary.missing},
          {"cases", std::move(cases)}};
}

}  // namespace

Comparison compare(const Case& parity_case, const Outputs& got) {
  Comparer comparer{parity_case, {}};
  for (const auto& [name, want] : parity_case.outputs) {
    if (want.value) {
      const auto found = got.values.find(name);
      if (found == got.values.end()) {
        comparer.note(HUGE_VAL, concat(name, ": not computed"));
      } else {
        comparer.json(name, *want.value, found->second, parity_case.rtol, 1e-9);
      }
    } else {
      const auto found = got.tensors.find(name);
      comparer.tensor(name, want, found == got.tensors.end() ? Tensor() : found->second);
    }
  }
  comparer.results(got.results);
  return comparer.result;
}

size_t Summary::num(Outcome outcome) const {
  return static_cast<size_t>(
      std::count_if(cases.begin(), cases.end(), [&](const CaseReport& report) { return report.outcome == outcome; }));
}

std::map<std::string, size_t> Summary::unknown() const {
  std::map<std::string, size_t> names;
  for (const CaseReport& report : cases) {
    if (report.outcome == Outcome::kSkipped) ++names[report.cls + "." + report.method];
  }
  return names;
}

int Summary::exit_code() const {
  return num(Outcome::kFailed) == 0 && num(Outcome::kPassed) > 0 && missing.empty() ? 0 : 1;
}

CaseReport verify_case(const fs::path& file, const Registry& registry) {
  CaseReport report;
  report.file = file;
  const auto fail = [&](const std::string& reason) {
    report.outcome = Outcome::kFailed;
    report.comparison = {HUGE_VAL, reason.empty() ? "failed" : first_line(reason)};
  };
  try {
    const Case parity_case = read_case(file);
    report.cls = parity_case.cls;
    report.method = parity_case.method;
    const Runner* runner = registry.find(report.cls, report.method);
    if (runner == nullptr) return report;
    report.comparison = compare(parity_case, (*runner)(parity_case));
    report.outcome = report.comparison.reason.empty() ? Outcome::kPassed : Outcome::kFailed;
  } catch (const NotInThisBuild& missing) {
    report.method += concat(" with ", missing.what());
  } catch (const c10::Error& error) {
    fail(error.what_without_backtrace());
  } catch (const std::exception& error) {
    fail(error.what());
  }
  return report;
}

std::vector<fs::path> case_files(std::span<const fs::path> paths) {
  std::vector<fs::path> files;
  for (const fs::path& path : paths) {
    std::error_code error;
    if (fs::is_directory(path, error)) {
      std::vector<fs::path> found;
      for (const auto& entry : fs::recursive_directory_iterator(path, fs::directory_options::skip_permission_denied)) {
        if (entry.path().extension() == ".safetensors" && entry.is_regular_file(error)) found.push_back(entry.path());
      }
      std::sort(found.begin(), found.end());
      files.insert(files.end(), found.begin(), found.end());
    } else if (fs::exists(path, error)) {
      files.push_back(path);
    } else {
      throw UsageError(concat("there is no file or folder ", path.string()));
    }
  }
  return files;
}

Summary verify(std::span<const fs::path> paths, const VerifyOptions& options, const Registry& registry,
               std::ostream& out) {
  Summary summary;
  std::set<std::string> ran;
  for (const fs::path& file : case_files(paths)) {
    if (options.cancel.stop_requested()) throw CancelledError();
    const CaseReport& report = summary.cases.emplace_back(verify_case(file, registry));
    if (report.outcome != Outcome::kSkipped) ran.insert(report.cls);
    if (report.outcome == Outcome::kFailed && !options.json) {
      const std::string name = report.cls.empty() ? "" : concat(" (", report.cls, ".", report.method, ")");
      out << "FAILED " << report.file.string() << name << ": " << report.comparison.reason << std::endl;
    }
  }
  for (const std::string& cls : options.require) {
    if (ran.count(cls) == 0) summary.missing.push_back(cls);
  }
  if (options.json) {
    out << to_json(summary).dump(2, ' ', true, Json::error_handler_t::replace) << "\n";
    return summary;
  }
  if (summary.cases.empty()) out << "there is no case: cases are .safetensors files, here or in folders below\n";
  const char* separator = "skipped, not in this build: ";
  for (const auto& [name, times] : summary.unknown()) {
    out << separator << name << " (" << times << ")";
    separator = ", ";
  }
  if (summary.num(Outcome::kSkipped) > 0) out << "\n";
  for (const std::string& cls : summary.missing) out << "required but did not run: " << cls << "\n";
  out << summary.num(Outcome::kPassed) << " passed, " << summary.num(Outcome::kFailed) << " failed, "
      << summary.num(Outcome::kSkipped) << " skipped" << std::endl;
  return summary;
}

int run_verify(std::span<const fs::path> paths, const VerifyOptions& options, std::ostream& out) {
  return verify(paths, options, all_runners(), out).exit_code();
}

}  // namespace kinora::parity
