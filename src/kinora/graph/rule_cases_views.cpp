#include "kinora/graph/rule_cases.h"

namespace kinora::graph {

std::vector<RuleCase> view_cases() {
  RuleCases cases;
  const auto add = [&](const char* dims, const RuleCases::Tensors& in, auto f) { cases.add(dims, in, f); };
  const Tensor x = draw({2, 6, 4}), y = draw({2, 3, 4, 6});
  add("012", {x}, [](const auto& in) { return in[0].view({2, 6, 2, 2}); });
  add("012", {y}, [](const auto& in) { return in[0].view({2, 12, 6}); });
  add("012", {y}, [](const auto& in) { return in[0].reshape({6, 4, 6}); });
  add("012", {y.transpose(1, 2)}, [](const auto& in) { return in[0].reshape({8, 3, 6}); });
  add("01", {draw({1, 6, 4})}, [](const auto& in) { return in[0].view({6, 4}); });
  add("01", {x}, [](const auto& in) { return in[0].view({12, 4}); });
  add("0", {x}, [](const auto& in) { return in[0].view({2, 4, 6}); });
  add("013", {x}, [](const auto& in) { return at::_unsafe_view(in[0], {2, 3, 2, 4}); });
  add("012", {y}, [](const auto& in) { return in[0].flatten(1, 2); });
  add("013", {x}, [](const auto& in) { return in[0].unflatten(1, {3, 2}); });
  add("0123", {y}, [](const auto& in) { return in[0].permute({0, 2, -1, 1}); });
  add("0123", {y}, [](const auto& in) { return in[0].transpose(1, -1); });
  add("01", {draw({3, 5})}, [](const auto& in) { return in[0].t(); });
  add("023", {x}, [](const auto& in) { return in[0].unsqueeze(1); });
  add("01", {draw({4, 1, 5})}, [](const auto& in) { return in[0].squeeze(1); });
  add("02", {draw({4, 2, 5})}, [](const auto& in) { return in[0].squeeze(1); });
  add("01", {draw({4, 1, 5})}, [](const auto& in) { return in[0].squeeze(at::IntArrayRef{1}); });
  add("012", {y}, [](const auto& in) { return in[0].select(-2, 1); });
  add("012", {y}, [](const auto& in) { return in[0].unbind(1); });
  add("012", {x}, [](const auto& in) { return in[0].slice(1, 1, 5); });
  add("02", {x}, [](const auto& in) { return in[0].slice(1, 0, 6, 2); });
  add("012", {x}, [](const auto& in) { return in[0].narrow(1, 2, 4); });
  add("02", {x}, [](const auto& in) { return in[0].split(3, 1); });
  add("02", {x}, [](const auto& in) { return in[0].split_with_sizes({3, 3}, 1); });
  add("01", {x}, [](const auto& in) { return in[0].chunk(2, -1); });
  add("02", {x, x}, [](const auto& in) { return at::cat({in[0], in[1]}, 1); });
  add("023", {x, x}, [](const auto& in) { return at::stack({in[0], in[1]}, 1); });
  add("012", {draw({6, 1})}, [](const auto& in) { return in[0].expand({4, -1, 5}); });
  add("012", {draw({6, 1}), x}, [](const auto& in) { return in[0].expand_as(in[1]); });
  add("012", {draw({1, 6, 4})}, [](const auto& in) { return in[0].repeat({3, 1, 1}); });
  add("02", {draw({2, 3, 4})}, [](const auto& in) { return in[0].repeat({1, 2, 1}); });
  add("012", {x}, [](const auto& in) { return at::constant_pad_nd(in[0], {1, 2, 2, 0}); });
  add("012", {x}, [](const auto& in) { return at::pad(in[0], {1, 2}, "replicate"); });
  add("", {x}, [](const auto& in) { return at::pad(in[0], {1, 2}, "reflect"); });
  return std::move(cases.all);
}

}  // namespace kinora::graph
