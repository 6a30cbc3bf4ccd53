#include "kinora/nn/layout.h"

#include "kinora/ops/attention.h"

namespace kinora {

Tensor Layout::local(const Tensor& whole, Axis, int) const { return whole; }

Tensor Layout::whole(const Tensor& local, Axis, int, const Extent&) const { return local; }

Streams Layout::with_whole(Axis, const Extent&, Streams streams, c10::function_ref<Streams(Streams)> f) const {
  return f(std::move(streams));
}

Streams Layout::attention(const Heads& video, const Heads* text, const Tensor& mask, const Extent&) const {
  const auto optional_mask = mask.defined() ? std::optional<Tensor>(mask) : std::nullopt;
  if (!text) return {ops::attention(video.q, video.k, video.v, optional_mask)};
  const Tensor q = at::cat({text->q, video.q}, 2), k = at::cat({text->k, video.k}, 2),
               v = at::cat({text->v, video.v}, 2);
  const Tensor out = ops::attention(q, k, v, optional_mask);
  const int64_t text_rows = text->q.size(2);
  return {out.narrow(2, text_rows, out.size(2) - text_rows), out.narrow(2, 0, text_rows)};
}

Tensor Layout::sum(const Tensor& partial) const { return partial; }

Tensor Layout::own(const Tensor& local, const Extent&) const { return local; }

const Layout& whole_layout() {
  static const Layout layout;
  return layout;
}

}  // namespace kinora
