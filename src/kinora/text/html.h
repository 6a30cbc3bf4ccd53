// HTML in prompts: character references and markup, as the Python functions that the references call treat them.
#pragma once

#include <string>
#include <string_view>

namespace kinora::text {

/// Replaces character references as html.unescape does: named ones of the standard (the longest known start of a name
/// counts where the whole does not), decimal and hexadecimal ones. `text` must be UTF-8.
std::string html_unescape(std::string_view text);

/// Replaces only references that end with ";", and upper-cased names of unambiguous letters ("&EACUTE;"), as ftfy does.
std::string html_unescape_strict(std::string_view text);

/// The text of a piece of HTML without its markup, as BeautifulSoup over html.parser gives it: comments, declarations,
/// scripts and styles dropped, references replaced, broken markup kept as text. Throws UsageError for text built of so
/// much broken markup that reading it would take seconds.
std::string html_text(std::string_view markup);

}  // namespace kinora::text
