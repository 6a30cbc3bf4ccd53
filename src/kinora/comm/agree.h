// What ranks must have in common, and what they decide together.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kinora/base/error.h"
#include "kinora/comm/communicator.h"

namespace kinora::comm {

/// What ranks differ in: every rank has seen it and throws the same.
class DifferenceError : public PeerError {
 public:
  using PeerError::PeerError;
};

/// Throws the same DifferenceError on every rank unless all give the same text; it shows rank 0's and the first that
/// differs. `what` names it, such as "the model's files". Collective.
void agree(Communicator& group, std::string_view what, std::string_view text);

/// Every rank's text, by rank. Collective.
std::vector<std::string> gather_texts(Communicator& group, std::string_view mine, std::string_view name);

/// Whether any rank says so. Collective.
bool any(Communicator& group, bool mine, std::string_view name);

/// What the first rank makes, at most 4 KiB, on every rank. An Error of `make` is thrown there as it is, and as a
/// PeerError that tells it on the others; `what` names it. Collective.
std::string from_first(Communicator& group, std::string_view what, const std::function<std::string()>& make);

}  // namespace kinora::comm
