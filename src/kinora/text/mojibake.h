// Mojibake: text that was written in UTF-8 and read in a one-byte encoding (an e with acute becomes a capital A with
// tilde and a copyright sign). Found and undone as ftfy 6.3 does (Speer 2019, doi:10.5281/zenodo.2591652), which the
// prompts of several models went through.
#pragma once

#include <string>
#include <string_view>

namespace kinora::text {

/// True when the text has a sequence of characters that is far likelier mojibake than meant.
bool looks_like_mojibake(std::u32string_view text);

/// Undoes mojibake layer by layer until nothing looks wrong; other text comes back as it is.
std::u32string fix_encoding(std::u32string text);

}  // namespace kinora::text
