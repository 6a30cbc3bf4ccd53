// What runs the cases: one small function per class and method of the reference.
#pragma once

#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "kinora/parity/case.h"

namespace kinora::parity {

/// What a runner computed, by the names of Case::outputs.
struct Outputs {
  std::map<std::string, Tensor> tensors;  ///< whole tensors in any float or integer dtype
  std::map<std::string, Json> values;     ///< outputs that the case holds as JSON
  Json results;                           ///< compared with Case::results where those are
};

/// What a runner throws for a case that asks for a part that this build lacks: the case is skipped, and the part is named.
class NotInThisBuild : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws whatever the engine throws; that case then counts as failed with the message as its reason.
using Runner = std::function<Outputs(const Case&)>;

class Registry {
 public:
  /// Throws std::logic_error when the pair is taken.
  void add(std::string cls, std::string method, Runner runner);
  /// nullptr: this build does not know the pair.
  const Runner* find(std::string_view cls, std::string_view method) const;

 private:
  std::map<std::pair<std::string, std::string>, Runner, std::less<>> runners_;
};

/// Every runner of this build.
Registry all_runners();

}  // namespace kinora::parity
