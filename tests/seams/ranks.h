// Two ranks as threads, under the layouts of the room `parallel`, and ways to break them.
#pragma once

#include <chrono>
#include <functional>

#include "kinora/comm/threads.h"
#include "kinora/comm/traffic.h"
#include "seams/subjects.h"

namespace kinora::seams {

/// One of two ranks.
struct Rank {
  int rank = 0;
  const Layout& layout;
  comm::Communicator& group;
  comm::Traffic& traffic;
  /// Exchanges since the start, or since the last call.
  int64_t exchanges() const;
};

struct RankOptions {
  std::string layout = {};  ///< empty: DSP where the model takes it, Ulysses where not
  Axis home = Axis::rows;
  bool skips = false;  ///< broken on purpose: exchanges give back what they were given
  std::chrono::milliseconds patience{5000};
};

/// Runs `f` as each of two ranks; throws what the first threw that failed by itself.
void on_two_ranks(const Subject& subject, const RankOptions& options, const std::function<void(Rank&)>& f);

/// Broken on purpose: what this rank adds up is its own alone.
class DecidesAlone : public Layout {
 public:
  explicit DecidesAlone(const Layout& of) : of_(of) {}
  Tensor local(const Tensor& whole, Axis axis, int dim) const override { return of_.local(whole, axis, dim); }
  Tensor whole(const Tensor& local, Axis axis, int dim, const Extent& extent) const override {
    return of_.whole(local, axis, dim, extent);
  }
  Streams around(const Run& run, const Bracket& bracket, Streams streams,
                 c10::function_ref<Streams(const Run&, Streams)> f) const override {
    return of_.around(run, bracket, std::move(streams), f);
  }
  Tensor attend(const Heads& heads, Axis along, const Extent& extent) const override {
    return of_.attend(heads, along, extent);
  }
  Streams attend_all(const Heads& video, const Heads* text, const Extent& extent) const override {
    return of_.attend_all(video, text, extent);
  }
  Tensor sum(const Tensor& partial) const override { return partial; }

 protected:
  const Layout& of_;
};

/// Broken on purpose: exchanges in blocks without an operator, so that no graph sees it.
class BehindDispatcher : public DecidesAlone {
 public:
  BehindDispatcher(const Layout& of, comm::Communicator& group) : DecidesAlone(of), group_(group) {}
  Streams around(const Run& run, const Bracket& bracket, Streams streams,
                 c10::function_ref<Streams(const Run&, Streams)> f) const override;

 private:
  comm::Communicator& group_;
};

}  // namespace kinora::seams
