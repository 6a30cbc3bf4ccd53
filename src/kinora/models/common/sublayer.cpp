#include "kinora/models/common/sublayer.h"

#include <utility>

#include "kinora/base/error.h"
#include "kinora/ops/residual.h"

namespace kinora::models {

Streams add_sublayer(const Run& run, const Streams& streams, SiteKey key, c10::function_ref<Modulations()> modulate,
                     c10::function_ref<Streams(const Modulations&)> compute) {
  key.point = Point::residual;
  SiteKey inner = key;
  inner.point = Point::module;
  Modulations m;
  const auto computed = [&]() -> Streams {
    m = modulate();
    Streams y = site(run, inner, [&] { return compute(m); });
    KINORA_ASSERT(m.size() == streams.size() && y.size() == streams.size());
    return y;
  };
  Streams sums;
  // Where nobody wants the product with the gate, the sum takes it in; the bits are the same.
  if (is_unwatched(run, key)) {
    const Streams y = computed();
    for (size_t i = 0; i < streams.size(); ++i) {
      const Tensor& gate = m[i].gate;
      sums.push_back(ops::add_residual(streams[i], y[i], gate.defined() ? std::optional<Tensor>(gate) : std::nullopt));
    }
    if (run.policy) run.policy->ran(key, run, false);
    return sums;
  }
  const Streams added = site(run, key, [&]() -> Streams {
    Streams y = computed();
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
