// Published sizes of decoders, by name: the workloads of `kinora bench offload`.
#pragma once

#include <string>
#include <vector>

#include "kinora/models/decoder/config.h"

namespace kinora::cli {

std::vector<std::string> decoder_shape_names();
/// Throws UsageError that lists the names.
models::decoder::DecoderConfig decoder_shape(const std::string& name);

}  // namespace kinora::cli
