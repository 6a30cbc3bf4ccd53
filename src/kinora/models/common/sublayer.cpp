#include "kinora/models/common/sublayer.h"

#include <utility>

#include "kinora/base/error.h"
#include "kinora/ops/residual.h"

namespace kinora::models {

Streams add_sublayer(const Run& run, const Streams& streams, SiteKey key, c10::function_ref<Modulations()> modulate,
                     c10::function_ref<Streams(const Modulations&)> compute) {
  Streams sums;
  // Without a policy nobody wants the product with the gate, so the sum takes it in; the bits are the same.
  if (!run.policy) {
    const Modulations m = modulate();
    const Streams y = compute(m);
    KINORA_ASSERT(m.size() == streams.size() && y.size() == streams.size());
    for (size_t i = 0; i < streams.size(); ++i) {
      const Tensor& gate = m[i].gate;
      sums.push_back(ops::add_residual(streams[i], y[i], gate.defined() ? std::optional<Tensor>(gate) : std::nullopt));
    }
    return sums;
  }
  key.point = Point::residual;
  const Streams added = site(run, key, [&]() -> Streams {
    const Modulations m = modulate();
    SiteKey inner = key;
    inner.point = Point::module;
    Streams y = site(run, inner, [&] { return compute(m); });
    KINORA_ASSERT(m.size() == streams.size() && y.size() == streams.size());
    for (size_t i = 0; i < y.size(); ++i) {
      if (m[i].gate.defined()) y[i] = y[i] * m[i].gate;
    }
    return y;
  });
  for (size_t i = 0; i < streams.size(); ++i) sums.push_back(ops::add_residual(streams[i], added[i]));
  return sums;
}

Tensor add_sublayer(const Run& run, const Tensor& x, SiteKey key, c10::function_ref<Modulation()> modulate,
                    c10::function_ref<Tensor(const Modulation&)> compute) {
  return add_sublayer(
      run, Streams{x}, key, [&]() -> Modulations { return {modulate()}; },
      [&](const Modulations& m) -> Streams { return {compute(m[0])}; })[0];
}

}  // namespace kinora::models
