#include "kinora/models/common/feed_forward.h"

#include <algorithm>
#include <iterator>

#include "kinora/base/error.h"

namespace kinora::models {

FeedForwardForm feed_forward_form(std::string_view name, std::string_view what) {
  using ops::Activation;
  constexpr std::pair<std::string_view, FeedForwardForm> kForms[] = {
      {"gelu", {Activation::gelu, false}},
      {"gelu-approximate", {Activation::gelu_tanh, false}},
      {"geglu", {Activation::gelu, true}},
      {"swiglu", {Activation::silu, true}},
      {"linear-silu", {Activation::silu, false}}};
  const auto* const found =
      std::find_if(std::begin(kForms), std::end(kForms), [&](const auto& f) { return f.first == name; });
  if (found != std::end(kForms)) return found->second;
  throw DataError(concat(what, ": activation_fn is \"", name, "\""),
                  "gelu, gelu-approximate, geglu, swiglu and linear-silu are known");
}

FeedForward::FeedForward(const Scope& scope, int64_t width, int64_t inner, FeedForwardForm form, bool bias)
    : form_(form),
      first_(scope / "net" / 0 / "proj", width, form.gated ? 2 * inner : inner, {.bias = bias}),
      second_(scope / "net" / 2, inner, width, {.bias = bias}) {}

Tensor FeedForward::operator()(const Run& run, const Tensor& x) const {
  const Tensor hidden = first_(run, x);
  if (!form_.gated) return second_(run, ops::activate(hidden, form_.activation));
  const int64_t inner = hidden.size(-1) / 2;
  return second_(run, hidden.narrow(-1, 0, inner) * ops::activate(hidden.narrow(-1, inner, inner), form_.activation));
}

}  // namespace kinora::models
