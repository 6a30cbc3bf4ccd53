#include "seams/ranks.h"

#include "kinora/parallel/layouts.h"

namespace kinora::seams {
namespace {

using comm::Counts;
using comm::Work;

struct Done : Work {
  void wait() override {}
};

/// Hands back what it was given, as far as it reaches.
class Skipping : public comm::Communicator {
 public:
  explicit Skipping(std::unique_ptr<comm::Communicator> of) : of_(std::move(of)) {}
  int rank() const override { return of_->rank(); }
  int size() const override { return of_->size(); }
  std::unique_ptr<Work> all_to_all(Tensor out, const Tensor& in, Counts, Counts, std::string_view) override {
    return repeated(out, in);
  }
  std::unique_ptr<Work> all_gather(Tensor out, const Tensor& in, Counts, std::string_view) override {
    return repeated(out, in);
  }
  std::unique_ptr<Work> reduce_scatter(Tensor out, const Tensor& in, Counts, std::string_view) override {
    return repeated(out, in);
  }
  std::unique_ptr<Work> all_reduce(Tensor, std::string_view) override { return std::make_unique<Done>(); }
  std::unique_ptr<Work> broadcast(Tensor, int, std::string_view) override { return std::make_unique<Done>(); }
  std::unique_ptr<Work> send(const Tensor&, int, std::string_view) override { return std::make_unique<Done>(); }
  std::unique_ptr<Work> recv(Tensor values, int, std::string_view) override {
    values.zero_();
    return std::make_unique<Done>();
  }
  void barrier(std::string_view) override {}
  void rendezvous(std::string_view) override {}
  std::unique_ptr<comm::Communicator> split(int colour, int key) override {
    return std::make_unique<Skipping>(of_->split(colour, key));
  }

 private:
  static std::unique_ptr<Work> repeated(const Tensor& out, const Tensor& in) {
    if (out.numel() > 0)
      out.copy_(at::cat(std::vector<Tensor>(static_cast<size_t>(out.numel() / in.numel() + 1), in))
                    .narrow(0, 0, out.numel()));
    return std::make_unique<Done>();
  }

  std::unique_ptr<comm::Communicator> of_;
};

}  // namespace

int64_t Rank::exchanges() const {
  int64_t calls = 0;
  for (const auto& [key, sent] : traffic.rows()) calls += key.second == "recv" ? 0 : sent.calls;
  traffic.clear();
  return calls;
}

void on_two_ranks(const Subject& subject, const RankOptions& options, const std::function<void(Rank&)>& f) {
  const parallel::Arrangement arrangement{.layout = !options.layout.empty()       ? options.layout
                                                    : subject.facts.along_all > 0 ? "ulysses"
                                                                                  : "dsp",
                                          .home = options.home,
                                          .ranks = 2};
  comm::run_ranks(2,
                  [&](comm::Communicator& world) {
                    comm::Traffic traffic;
                    std::unique_ptr<comm::Communicator> inner = world.split(0, world.rank());
                    if (options.skips) inner = std::make_unique<Skipping>(std::move(inner));
                    comm::Counted group(std::move(inner), traffic);
                    parallel::MadeLayout made = make_layout(arrangement, subject.facts, subject.extent, group);
                    traffic.clear();
                    Rank rank{.rank = world.rank(), .layout = made.layout(), .group = group, .traffic = traffic};
                    f(rank);
                  },
                  {.deadline = options.patience});
}

Streams BehindDispatcher::around(const Run& run, const Bracket& bracket, Streams streams,
                                 c10::function_ref<Streams(const Run&, Streams)> f) const {
  streams = of_.around(run, bracket, std::move(streams), f);
  if (bracket.part == Part::attention) {
    const Tensor own = streams[0].contiguous().clone();
    group_.broadcast(own.view(-1), 0, "unseen")->wait();
  }
  return streams;
}

}  // namespace kinora::seams
