#include "kinora/nn/layout.h"

#include "kinora/ops/attention.h"

namespace kinora {

Tensor Layout::local(const Tensor& whole, Axis, int) const { return whole; }

Tensor Layout::whole(const Tensor& local, Axis, int, const Extent&) const { return local; }

Streams Layout::around(const Run& run, const Bracket&, Streams streams,
                       c10::function_ref<Streams(const Run&, Streams)> f) const {
  return f(run, std::move(streams));
}

Tensor Layout::attend(const Heads& heads, Axis, const Extent&) const {
  const auto sets = [](const Tensor& t) { return t.flatten(0, 1); };
  const Tensor out = ops::attention(sets(heads.q), sets(heads.k), sets(heads.v));
  return out.unflatten(0, {heads.q.size(0), heads.q.size(1)});
}

Streams Layout::attend_all(const Heads& video, const Heads* text, const Extent&) const {
  if (!text) return {ops::attention(video.q, video.k, video.v)};
  const Tensor q = at::cat({text->q, video.q}, 2), k = at::cat({text->k, video.k}, 2),
               v = at::cat({text->v, video.v}, 2);
  const Tensor out = ops::attention(q, k, v);
  const int64_t text_rows = text->q.size(2);
  return {out.narrow(2, text_rows, out.size(2) - text_rows), out.narrow(2, 0, text_rows)};
}

Tensor Layout::sum(const Tensor& partial) const { return partial; }

const Layout& whole_layout() {
  static const Layout layout;
  return layout;
}

}  // namespace kinora
