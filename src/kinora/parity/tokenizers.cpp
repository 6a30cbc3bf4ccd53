#include "kinora/parity/runners.h"

namespace kinora::parity {

void add_tokenizers(Registry& registry) { static_cast<void>(registry); }

}  // namespace kinora::parity
