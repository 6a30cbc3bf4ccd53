#include "kinora/parity/runners.h"

namespace kinora::parity {

void add_open_sora(Registry& registry) { static_cast<void>(registry); }

}  // namespace kinora::parity
