// Words for people, one line each, on stderr. Results never go here: they belong to stdout. One sink for the process;
// thread-safe. (The logger's own header stays in log.cpp: it brings a formatting library that LibTorch has in another
// version.)
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace kinora {

enum class LogLevel { debug, info, warn, error, off };

void log_debug(std::string_view text);
void log_info(std::string_view text);
void log_warn(std::string_view text);
void log_error(std::string_view text);

/// Lines below this level are dropped; `info` at start.
void set_log_level(LogLevel level);
LogLevel log_level();
/// "debug", "info", "warn", "error" or "off"; anything else is a UsageError.
LogLevel parse_log_level(std::string_view name);

/// Put before each line, such as "rank 3: "; empty at start.
void set_log_prefix(std::string prefix);

/// Receives each finished line (without line end) in place of stderr; an empty function restores stderr. For tests, and
/// for programs that embed the engine.
void set_log_sink(std::function<void(LogLevel, std::string_view)> sink);

}  // namespace kinora
