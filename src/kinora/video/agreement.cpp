#include "kinora/video/agreement.h"

#include <algorithm>
#include <bit>

#include "kinora/comm/agree.h"

namespace kinora::video {

void settle(Plan& plan, comm::Communicator& ranks) {
  constexpr int64_t kNumbers = 4;
  const std::vector<int64_t> counts(static_cast<size_t>(ranks.size()), kNumbers);
  const at::Tensor own = at::tensor(
      {std::bit_cast<int64_t>(plan.seed), plan.batch, int64_t{plan.one_by_one}, int64_t{plan.branches_apart}},
      at::kLong);
  const at::Tensor all = at::empty({ranks.size() * kNumbers}, at::kLong);
  ranks.all_gather(all, own, counts, "plan")->wait();
  const int64_t* const numbers = all.const_data_ptr<int64_t>();
  plan.seed = std::bit_cast<uint64_t>(numbers[0]);
  for (int r = 0; r < ranks.size(); ++r) {
    plan.batch = std::min(plan.batch, numbers[r * kNumbers + 1]);
    plan.one_by_one = plan.one_by_one || numbers[r * kNumbers + 2] != 0;
    plan.branches_apart = plan.branches_apart || numbers[r * kNumbers + 3] != 0;
  }
}

void require_agreement(const Plan& plan, const Json& settings, const Job& job, comm::Communicator& ranks) {
  const auto text = [](const Json& json) { return json.dump(-1, ' ', true, Json::error_handler_t::replace); };
  comm::agree(ranks, "the request or the model's files", text(settings));
  comm::agree(ranks, "the layout", plan.spread.reason);
  comm::agree(ranks, "the job that they go on with",
              text({{"batch", job.batch},
                    {"pass", job.pass},
                    {"first", job.first},
                    {"calls", job.state.trajectory.call},
                    {"is_denoised", job.is_denoised}}));
}

}  // namespace kinora::video
