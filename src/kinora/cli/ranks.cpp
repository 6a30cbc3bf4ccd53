#include "kinora/cli/ranks.h"

#include <cstdlib>

#include "kinora/base/error.h"
#include "kinora/base/log.h"
#include "kinora/comm/nccl.h"
#include "kinora/comm/single.h"

namespace kinora::cli {
namespace {

const char* variable(const char* name) { return std::getenv(name); }

}  // namespace

bool was_started_as_rank() { return comm::find_place(variable).has_value(); }

comm::Communicator& Ranks::join() {
  if (world_) return world_->all();
  if (alone_) return *alone_;
  const auto place = comm::find_place(variable);
  if (!place) {
    alone_ = comm::single();
    return *alone_;
  }
  comm::JoinOptions options{.version = KINORA_VERSION};
  options.deadline = comm::deadline_or(variable, options.deadline);
  if (comm::checks_always(variable)) options.check = comm::Check::always;
  // The launcher puts it before each line; others do not.
  if (variable("KINORA_LAUNCHED") == nullptr) set_log_prefix(concat("rank ", place->rank, ": "));
  exchange_ = {.deadline = options.deadline, .check = options.check};
  world_ = comm::join(*place, options);
  return world_->all();
}

comm::Communicator& Ranks::join(at::Device device) {
  comm::Communicator& all = join();
  if (device.is_cpu() || all.size() == 1) return all;
  if (!devices_) devices_ = comm::nccl(all, device, exchange_);
  return *devices_;
}

std::string Ranks::own_device(const std::string& name) {
  if (name != "cuda" || join().size() == 1) return name;
  return concat("cuda:", world_->rank_of_host());
}

void Ranks::finish() {
  if (devices_) devices_->barrier("end of the devices' work");
  devices_.reset();
  if (world_) world_->finish();
}

bool Ranks::speaks(const comm::Failure& failure) { return !world_ || world_->speaks(failure); }

void Ranks::end_all(const comm::Failure& failure) {
  if (!world_) return;
  if (failure.exit_code == CancelledError().exit_code()) {
    try {
      finish();
      return;
    } catch (const std::exception&) {  // somebody did not stop: end it as any other failure
    }
  }
  world_->end_all(failure);
}

}  // namespace kinora::cli
