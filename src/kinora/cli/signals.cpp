#include "kinora/cli/signals.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "kinora/base/error.h"

namespace kinora::cli {
namespace {

constexpr int kCancelledExitCode = 130;
constexpr int kWake = SIGUSR2;  // ends the waiting thread

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, kWake}) sigaddset(&set, signal);
  // A blocked signal comes to sigwait() even where it is to be ignored.
  struct sigaction hangup {};
  if (::sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);
  return set;
}

// A signal handler reaches nothing but what is global.
std::atomic<bool> file_was_cut{false};
static_assert(std::atomic<bool>::is_always_lock_free);
long page_bytes = 4096;

void on_bus_error(int signal, siginfo_t* info, void*) {
  const auto page = reinterpret_cast<uintptr_t>(info->si_addr) / static_cast<uintptr_t>(page_bytes) *
                    static_cast<uintptr_t>(page_bytes);
  const bool is_mapping = info->si_code == BUS_ADRERR;
  if (is_mapping && ::mmap(reinterpret_cast<void*>(page), static_cast<size_t>(page_bytes), PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
    file_was_cut.store(true, std::memory_order_relaxed);
    return;
  }
  ::signal(signal, SIG_DFL);  // the access runs again and ends the process
}

}  // namespace

CancelOnSignal::CancelOnSignal() {
  const sigset_t set = watched();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  waiter_ = std::thread([this, set] {
    int signal = 0;
    while (::sigwait(&set, &signal) == 0 && signal != kWake) {
      if (count_.fetch_add(1) >= most_.load()) ::_exit(kCancelledExitCode);
      stop_.request_stop();
    }
  });
}

CancelOnSignal::~CancelOnSignal() {
  ::pthread_kill(waiter_.native_handle(), kWake);
  waiter_.join();
}

void make_signals_write_errors() {
  for (const int signal : {SIGPIPE, SIGXFSZ}) ::signal(signal, SIG_IGN);
}

void install_bus_guard() {
  page_bytes = ::sysconf(_SC_PAGESIZE);
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

void throw_if_file_was_cut() {
  if (file_was_cut.load(std::memory_order_relaxed))
    throw DataError("a weights file was cut short while it was in use",
                    "leave the model's files alone while the program runs");
}

}  // namespace kinora::cli
