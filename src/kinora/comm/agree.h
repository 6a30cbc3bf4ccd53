// What ranks must have in common, and what they decide together.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kinora/comm/communicator.h"

namespace kinora::comm {

/// Throws the same PeerError on every rank unless all give the same text; it shows rank 0's and the first that differs.
/// `what` names it, such as "the model's files". Collective.
void agree(Communicator& group, std::string_view what, std::string_view text);

/// Every rank's text, by rank. Collective.
std::vector<std::string> gather_texts(Communicator& group, std::string_view mine, std::string_view name);

/// Whether any rank says so. Collective.
bool any(Communicator& group, bool mine, std::string_view name);

}  // namespace kinora::comm
