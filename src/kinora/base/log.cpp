#include "kinora/base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <memory>
#include <mutex>
#include <utility>

#include "kinora/base/error.h"

namespace kinora {
namespace {

// The one process-wide object of the house: a line must find its way out from any depth.
struct Log {
  std::mutex mutex;
  std::string prefix;
  std::function<void(LogLevel, std::string_view)> sink;
  spdlog::logger stderr_logger{"kinora", std::make_shared<spdlog::sinks::stderr_sink_mt>()};

  Log() {
    stderr_logger.set_pattern("%v");
    stderr_logger.set_level(spdlog::level::trace);
    stderr_logger.flush_on(spdlog::level::trace);
  }
};

Log& log() {
  // Never destroyed: threads may still log while the program ends.
  static Log* const instance = new Log;
  return *instance;
}

const char* tag(LogLevel level) {
  switch (level) {
    case LogLevel::warn: return "warning: ";
    case LogLevel::error: return "error: ";
    case LogLevel::info: break;
  }
  return "";
}

void write(LogLevel level, std::string_view text) {
  Log& state = log();
  const std::lock_guard lock(state.mutex);
  const std::string line = concat(state.prefix, tag(level), text);
  if (state.sink) {
    state.sink(level, line);
  } else {
    state.stderr_logger.log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
  }
}

}  // namespace

void log_info(std::string_view text) { write(LogLevel::info, text); }
void log_warn(std::string_view text) { write(LogLevel::warn, text); }
void log_error(std::string_view text) { write(LogLevel::error, text); }

void set_log_prefix(std::string prefix) {
  const std::lock_guard lock(log().mutex);
  log().prefix = std::move(prefix);
}

void set_log_sink(std::function<void(LogLevel, std::string_view)> sink) {
  const std::lock_guard lock(log().mutex);
  log().sink = std::move(sink);
}

}  // namespace kinora
