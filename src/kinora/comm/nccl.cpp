#include "kinora/comm/nccl.h"

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/comm/agree.h"
#include "kinora/comm/device_group.h"
#include "kinora/tensor/device.h"

namespace kinora::comm {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kSpin = 1ms;
constexpr auto kSleep = 200us;
constexpr auto kBetweenLooks = 50ms;  // of the watcher
constexpr const char* kWords = "NCCL_DEBUG=WARN in the environment makes NCCL tell more";
constexpr const char* kDeadlineWords =
    "see what holds the other ranks up; KINORA_DEADLINE sets how many seconds ranks wait";

double seconds(std::chrono::milliseconds time) { return static_cast<double>(time.count()) / 1000; }

bool is_failure(ncclResult_t said) { return said != ncclSuccess && said != ncclInProgress; }

PeerError error_of(ncclResult_t said, std::string_view doing, ncclComm_t comm) {
  const char* const last = ncclGetLastError(comm);
  return PeerError(concat(doing, ": NCCL says \"", ncclGetErrorString(said), "\"",
                          last != nullptr && *last != '\0' ? concat(" (", last, ")") : ""),
                   kWords);
}

/// What the device was asked for in one run.
struct Flight {
  Call call;
  std::vector<Tensor> buffers;  ///< of the rank's thread
  c10::cuda::CUDAEvent ready;   ///< what was asked for before is done
  c10::cuda::CUDAEvent done;
  std::optional<Clock::time_point> waits_since;  ///< of the watcher: when nothing of this rank held it up any more
};

void spin_or_sleep(Clock::time_point begin) {
  if (Clock::now() - begin >= kSpin) std::this_thread::sleep_for(kSleep);
}

class NcclLane final : public Lane {
 public:
  NcclLane(Communicator& group, at::Device device, std::chrono::milliseconds deadline)
      : device_(device),
        deadline_(deadline),
        exceptions_(std::uncaught_exceptions()),
        stream_(c10::cuda::getStreamFromPool(true, device.index())) {
    if (group.size() == 1) return;
    const std::string id = from_first(group, "the id of an NCCL group", [] {
      ncclUniqueId made;
      const ncclResult_t said = ncclGetUniqueId(&made);
      if (said != ncclSuccess) throw error_of(said, "making an id", nullptr);
      return std::string(made.internal, sizeof made.internal);
    });
    ncclUniqueId shared;
    KINORA_ASSERT(id.size() == sizeof shared.internal);
    std::memcpy(shared.internal, id.data(), id.size());
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const c10::cuda::CUDAGuard guard(device_);
    settle(ncclCommInitRankConfig(&comm_, group.size(), shared, group.rank(), &config),
           concat("the start of NCCL between ", group.size(), " ranks"));
    watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
  }

  ~NcclLane() override {
    if (watcher_.joinable()) watcher_.request_stop(), watcher_.join();
    if (comm_ == nullptr) return;
    // Others may be gone where this rank is on its way out: only an orderly end waits for them.
    ncclResult_t said =
        std::uncaught_exceptions() == exceptions_ ? ncclCommFinalize(comm_) : ncclResult_t{ncclRemoteError};
    for (const auto begin = Clock::now(); said == ncclInProgress && Clock::now() - begin < deadline_;) {
      spin_or_sleep(begin);
      if (ncclCommGetAsyncError(comm_, &said) != ncclSuccess) said = ncclInternalError;
    }
    if (said == ncclSuccess)
      ncclCommDestroy(comm_);
    else
      ncclCommAbort(comm_);
  }
  NcclLane(const NcclLane&) = delete;
  NcclLane& operator=(const NcclLane&) = delete;

  at::Device device() const override { return device_; }

  std::unique_ptr<Work> run(const Call& call, std::vector<Tensor> buffers, const std::function<void()>& f) override {
    check();
    const auto flight = std::make_shared<Flight>();
    flight->call = call, flight->buffers = std::move(buffers);
    flight->ready.record(c10::cuda::getCurrentCUDAStream(device_.index()));
    flight->ready.block(stream_);
    doing_ = &flight->call;
    {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      f();
      flight->done.record(stream_);
    }
    if (comm_ != nullptr) {
      {
        const std::lock_guard lock(mutex_);
        flights_.push_back(flight);
      }
      wake_.notify_one();
    }
    return std::make_unique<Running>(*this, flight);
  }

  void exchange(std::span<const Part> sent, std::span<const Part> received) override {
    if (sent.empty() && received.empty()) return;
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    ncclResult_t worst = ncclGroupStart();
    const auto note = [&worst](ncclResult_t said) {
      if (is_failure(said) && !is_failure(worst)) worst = said;
    };
    // As bytes: nothing is added up on the way.
    for (const Part& part : sent)
      note(ncclSend(part.values.const_data_ptr(), part.values.nbytes(), ncclInt8, part.peer, comm_, stream_.stream()));
    for (const Part& part : received)
      note(
          ncclRecv(part.values.mutable_data_ptr(), part.values.nbytes(), ncclInt8, part.peer, comm_, stream_.stream()));
    const ncclResult_t ended = ncclGroupEnd();
    note(ended);
    settle(is_failure(worst) ? worst : ended, describe(*doing_));
  }

  void wait_for_device() override {
    c10::cuda::CUDAEvent computed, exchanged;
    computed.record(c10::cuda::getCurrentCUDAStream(device_.index()));
    exchanged.record(stream_);
    for (const auto begin = Clock::now(); !computed.query() || !exchanged.query(); spin_or_sleep(begin)) check();
    check();
  }

  void check() override {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
  }

  std::unique_ptr<Lane> of_group(Communicator& group) const override {
    return std::make_unique<NcclLane>(group, device_, deadline_);
  }

 private:
  class Running final : public Work {
   public:
    Running(NcclLane& lane, std::shared_ptr<Flight> flight) : lane_(lane), flight_(std::move(flight)) {}
    ~Running() override {
      try {
        wait();
      } catch (...) {  // the next call of this rank throws it again
      }
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    void wait() override {
      flight_->done.block(c10::cuda::getCurrentCUDAStream(lane_.device_.index()));
      flight_->buffers.clear();
      lane_.check();
    }

   private:
    NcclLane& lane_;
    std::shared_ptr<Flight> flight_;
  };

  /// Ends the exchanges that this rank's device waits in: kernels that wait for others return, with whatever they have.
  /// With mutex_, or before there is a watcher.
  void give_up(std::exception_ptr cause) {
    failure_ = std::move(cause);
    if (comm_ != nullptr) ncclCommAbort(std::exchange(comm_, nullptr));
    flights_.clear();
  }

  /// Until NCCL has done on the host what it was asked for. With mutex_, or before there is a watcher.
  void settle(ncclResult_t said, std::string_view doing) {
    for (const auto begin = Clock::now(); said == ncclInProgress; spin_or_sleep(begin)) {
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
      said = asked == ncclSuccess ? state : asked;
      if (said != ncclInProgress || Clock::now() - begin < deadline_) continue;
      give_up(std::make_exception_ptr(
          DeadlineError(concat(doing, ": not all ranks have come within ", seconds(deadline_), " s"), kDeadlineWords)));
      std::rethrow_exception(failure_);
    }
    if (said == ncclSuccess) return;
    give_up(std::make_exception_ptr(error_of(said, doing, comm_)));
    std::rethrow_exception(failure_);
  }

  void watch(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (wake_.wait(lock, stop, [this] { return !flights_.empty(); }) && !stop.stop_requested()) {
      try {
        look();
      } catch (const std::exception& error) {  // of the device itself
        give_up(
            std::make_exception_ptr(PeerError(concat("watching exchanges of ", device_.str(), ": ", error.what()))));
      }
      wake_.wait_for(lock, stop, kBetweenLooks, [] { return false; });
    }
  }

  void look() {
    while (!flights_.empty() && flights_.front()->done.query()) flights_.pop_front();
    if (flights_.empty() || comm_ == nullptr) return;
    Flight& first = *flights_.front();
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (is_failure(asked) || is_failure(state))
      return give_up(std::make_exception_ptr(error_of(is_failure(asked) ? asked : state, describe(first.call), comm_)));
    // The device may still compute what was asked for before: that is no wait for others.
    if (!first.waits_since) {
      if (first.ready.query()) first.waits_since = Clock::now();
    } else if (Clock::now() - *first.waits_since > deadline_) {
      give_up(std::make_exception_ptr(DeadlineError(concat(describe(first.call), ": ", device_.str(),
                                                           " has waited for the others for ", seconds(deadline_), " s"),
                                                    kDeadlineWords)));
    }
  }

  at::Device device_;
  std::chrono::milliseconds deadline_;
  int exceptions_;  ///< that were on their way when this was made
  c10::cuda::CUDAStream stream_;
  const Call* doing_ = nullptr;                  ///< within run
  std::mutex mutex_;                             ///< of what follows
  ncclComm_t comm_ = nullptr;                    ///< none for one rank, and after a failure
  std::deque<std::shared_ptr<Flight>> flights_;  ///< in the order in which the device does them
  std::exception_ptr failure_;
  std::condition_variable_any wake_;
  std::jthread watcher_;  ///< the last member: the others are there as long as it runs
};

/// NCCL would end with "invalid usage" on some ranks.
void require_own_gpus(Communicator& control, at::Device device) {
  const cudaUUID_t mine = at::cuda::getDeviceProperties(device.index())->uuid;
  constexpr auto kBytes = static_cast<int64_t>(sizeof mine.bytes);
  const Tensor own = at::empty({kBytes}, at::kByte), all = at::empty({control.size(), kBytes}, at::kByte);
  std::memcpy(own.data_ptr(), mine.bytes, sizeof mine.bytes);
  const std::vector<int64_t> counts(static_cast<size_t>(control.size()), kBytes);
  control.all_gather(all, own, counts, "GPUs")->wait();
  for (int64_t r = 1; r < control.size(); ++r) {
    for (int64_t other = 0; other < r; ++other) {
      if (!at::equal(all[r], all[other])) continue;
      throw UsageError(concat("ranks ", other, " and ", r, " have the same GPU"),
                       "--device cuda gives each rank of a host one of its own; start no more ranks than it has GPUs");
    }
  }
}

}  // namespace

bool has_nccl() { return true; }

std::unique_ptr<Communicator> nccl(Communicator& control, at::Device device, const ExchangeOptions& options) {
  if (!device.is_cuda() || !device.has_index())
    throw UsageError(concat("NCCL exchanges tensors of GPUs, and ", device.str(), " is none"), "name one as cuda:N");
  parse_device(device.str());  // whether it is there
  if (control.size() > 1) require_own_gpus(control, device);
  return device_group(control, std::make_unique<NcclLane>(control, device, options.deadline), options.check);
}

}  // namespace kinora::comm
