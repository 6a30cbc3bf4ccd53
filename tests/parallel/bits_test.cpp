// Equal bits, in the dtypes that models run in.
#include <gtest/gtest.h>

#include "kinora/base/error.h"
#include "parallel/models.h"

namespace kinora::seams {
namespace {

using parallel::Arrangement;

Tensor predict_as(const Subject& subject, at::ScalarType dtype, const Layout& layout) {
  std::vector<Tensor> values;
  for (const Tensor& t : subject.values) values.push_back(t.to(dtype));
  ResidentWeights weights(values);
  return subject.predict({.weights = &weights, .layout = &layout}, subject.latents.to(dtype), 500);
}

/// A rank with one frame leaves the attention along frames with rows that lie side by side; the linear layer behind it
/// then adds its bias before it rounds, and in bfloat16 that shows.
bool meets_other_kernels(const Subject& subject, const Arrangement& a, at::ScalarType dtype) {
  return dtype == at::kBFloat16 && a.layout == "ulysses" && a.home == Axis::frames && subject.facts.along_frames > 0 &&
         2 * a.ranks > subject.extent.frames;
}

/// Where rows and heads are computed by the same kernels, only elsewhere, no bit moves. A ring adds up the parts of the
/// keys, and Megatron's layout those of the heads, in another order: float32 2e-6 and bfloat16 0.04, of values near 3.
TEST(Bits, OfDspAndUlyssesAreThoseOfOneProcess) {
  at::NoGradGuard no_grad;
  at::set_num_threads(1);
  for (const Subject& subject :
       {make_larger_stdit3(), make_larger_latte(), make_larger_cogvideox(), make_larger_wan()}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const Tensor want = predict_as(subject, dtype, whole_layout());
      for (const int ranks : {2, 3, 4, 5, 8}) {
        for (const Arrangement& a : arrangements(subject, ranks)) {
          const std::string what = concat(name_of(subject, a), " in ", dtype);
          on_ranks(subject, a, [&](Place& place) {
            const Tensor got = predict_as(subject, dtype, place.layout);
            const double d = (got.to(at::kDouble) - want.to(at::kDouble)).abs().max().item<double>();
            const bool only_moves = a.layout.starts_with("dsp") || a.layout == "ulysses";
            if (only_moves && !meets_other_kernels(subject, a, dtype)) {
              EXPECT_EQ(d, 0) << what;
            } else {
              EXPECT_LT(d, dtype == at::kFloat ? 2e-6 : 0.04) << what;
            }
          });
        }
      }
    }
  }
}

}  // namespace
}  // namespace kinora::seams
