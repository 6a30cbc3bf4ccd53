// Words for people, one line each, on stderr. Results never go here: they belong to stdout. One sink for the process;
// thread-safe. (The logger's own header stays in log.cpp: it brings a formatting library that LibTorch has in another
// version.)
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace kinora {

enum class LogLevel { info, warn, error };

void log_info(std::string_view text);
void log_warn(std::string_view text);
void log_error(std::string_view text);

/// Put before each line, such as "rank 3: "; empty at start.
void set_log_prefix(std::string prefix);

/// Receives each finished line (without line end) in place of stderr; an empty function restores stderr. Called
/// under a lock: it must not log. For tests, and for programs that embed the engine.
void set_log_sink(std::function<void(LogLevel, std::string_view)> sink);

}  // namespace kinora
