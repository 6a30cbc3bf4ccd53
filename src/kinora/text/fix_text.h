// Repairs text that went through the wrong programs, as ftfy 6.3's fix_text does with its defaults.
#pragma once

#include <string>
#include <string_view>

namespace kinora::text {

/// Line by line until nothing changes: character references (not in text with "<"), mojibake, ligatures, full- and
/// half-width forms, curly quotes, line breaks, terminal escapes, control characters, NFC. `text` must be UTF-8.
std::string fix_text(std::string_view text);

}  // namespace kinora::text
