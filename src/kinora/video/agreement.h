// What ranks must have in common before they work together: the request, the model's files, where a job stands.
#pragma once

#include "kinora/base/json.h"
#include "kinora/comm/communicator.h"
#include "kinora/video/job.h"
#include "kinora/video/request.h"

namespace kinora::video {

/// What each rank found by itself: the first rank's seed where none was asked for, and the sizes that fit on all of them.
/// Collective.
void settle(Plan& plan, comm::Communicator& ranks);

/// Throws the same PeerError on all ranks unless they have the same settings (Pipeline::settings: request, files), layout
/// and job. Collective.
void require_agreement(const Plan& plan, const Json& settings, const Job& job, comm::Communicator& ranks);

}  // namespace kinora::video
