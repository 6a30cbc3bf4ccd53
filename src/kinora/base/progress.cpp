#include "kinora/base/progress.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "kinora/base/memory.h"

namespace kinora {
namespace {

constexpr size_t kRecent = 32;

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename... Args>
std::string print(const char* format, Args... args) {
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), format, args...);
  return text.data();
}

std::string duration(double seconds) {
  const auto whole = static_cast<long long>(seconds + 0.5);
  if (whole < 100) return print("%lld s", whole);
  if (whole < 6000) return print("%lld min %02lld s", whole / 60, whole % 60);
  return print("%lld h %02lld min", whole / 3600, whole / 60 % 60);
}

}  // namespace

bool is_terminal(int descriptor) {
  // Ranks write through pipes to the launcher, which says so when it stands before a terminal.
  return ::isatty(descriptor) == 1 || (descriptor == 2 && std::getenv("KINORA_TERMINAL") != nullptr);
}

Progress::Progress(std::ostream& out, ProgressOptions options) : out_(out), options_(std::move(options)) {
  if (!options_.now_s) options_.now_s = steady_seconds;
  if (options_.interval_s < 0) options_.interval_s = options_.is_terminal ? 0.1 : 5.0;
  start_s_ = options_.now_s();
  done_ = options_.begin;
  recent_.emplace_back(start_s_, done_);
}

Progress::~Progress() {
  try {
    finish();
  } catch (...) {  // a stream with exceptions on must not end the program while another error is under way
  }
}

void Progress::update(int64_t done) {
  if (is_finished_) return;
  const double now = options_.now_s();
  done_ = done;
  recent_.emplace_back(now, done);
  if (recent_.size() > kRecent) recent_.pop_front();
  const bool is_first = written_done_ < 0;
  const bool is_last = options_.total > 0 && done >= options_.total;
  if (is_first || is_last || now - last_write_s_ >= options_.interval_s) write(now);
}

void Progress::finish() {
  if (is_finished_) return;
  is_finished_ = true;
  if (written_done_ < 0 && done_ == options_.begin) return;  // nothing was ever shown
  if (written_done_ != done_) write(options_.now_s());
  if (options_.is_terminal) out_ << '\n' << std::flush;
}

std::string Progress::line(double now) const {
  std::string text = options_.label + " " + std::to_string(done_);
  if (options_.total > 0) text += "/" + std::to_string(options_.total);
  const auto [then, before] = recent_.front();
  const double rate = now > then ? static_cast<double>(done_ - before) / (now - then) : 0.0;
  if (rate > 0.0) {
    // Slow steps read better as seconds each.
    text += rate >= 0.1 ? print("  %.*f ", rate < 10.0 ? 2 : 0, rate) + options_.unit + "/s"
                        : print("  %.1f s/", 1.0 / rate) + options_.unit;
    const bool is_over = done_ >= options_.total;
    if (options_.total > 0 && !is_over) {
      text += "  " + duration(static_cast<double>(options_.total - done_) / rate) + " left";
    } else if (options_.total > 0) {
      text += "  " + duration(now - start_s_);
    }
  }
  if (options_.memory_bytes) text += "  " + human_bytes(options_.memory_bytes());
  if (!note_.empty()) text += "  " + note_;
  return text;
}

void Progress::write(double now) {
  // \r and "erase to end of line": a shorter text must not leave the tail of a longer one.
  if (options_.is_terminal) {
    out_ << '\r' << line(now) << "\x1b[K" << std::flush;
  } else {
    out_ << line(now) << '\n' << std::flush;
  }
  last_write_s_ = now;
  written_done_ = done_;
}

}  // namespace kinora
