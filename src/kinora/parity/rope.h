// Rotary tables as the cases describe them.
#pragma once

#include "kinora/base/json.h"
#include "kinora/models/common/positions.h"

namespace kinora::parity {

/// args: the arguments of get_3d_rotary_pos_embed.
models::RotaryTable rotary_of(const Json& args);

}  // namespace kinora::parity
