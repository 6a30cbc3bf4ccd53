#include "kinora/video/turns.h"

#include <algorithm>

#include "kinora/base/error.h"

namespace kinora::video {
namespace {

constexpr int64_t kMostDims = 8;

/// dtype, number of dimensions, sizes.
at::Tensor header_of(const at::Tensor& t) {
  KINORA_ASSERT(t.dim() <= kMostDims);
  const at::Tensor header = at::zeros({2 + kMostDims}, at::kLong);
  int64_t* const h = header.mutable_data_ptr<int64_t>();
  h[0] = static_cast<int64_t>(t.scalar_type()), h[1] = t.dim();
  std::copy(t.sizes().begin(), t.sizes().end(), h + 2);
  return header;
}

at::Tensor empty_of(const at::Tensor& header, at::Device device) {
  const int64_t* const h = header.const_data_ptr<int64_t>();
  return at::empty(at::IntArrayRef(h + 2, static_cast<size_t>(h[1])),
                   at::TensorOptions(device).dtype(static_cast<at::ScalarType>(h[0])));
}

}  // namespace

std::vector<at::Tensor> make_in_turns(comm::Communicator& ranks, int64_t count, at::Device device,
                                      std::string_view name, c10::function_ref<at::Tensor(int64_t)> make) {
  std::vector<at::Tensor> all(static_cast<size_t>(count));
  for (int64_t i = ranks.rank(); i < count; i += ranks.size()) all[static_cast<size_t>(i)] = make(i).contiguous();
  if (ranks.size() == 1) return all;
  for (int64_t i = 0; i < count; ++i) {
    at::Tensor& t = all[static_cast<size_t>(i)];
    const int root = static_cast<int>(i % ranks.size());
    const at::Tensor header = t.defined() ? header_of(t) : at::zeros({2 + kMostDims}, at::kLong);
    ranks.broadcast(header, root, name)->wait();
    if (!t.defined()) t = empty_of(header, device);
    ranks.broadcast(t.view({-1}), root, name)->wait();
  }
  return all;
}

}  // namespace kinora::video
