#include "kinora/comm/check.h"

#include <algorithm>

#include "kinora/base/error.h"
#include "kinora/comm/counts.h"

namespace kinora::comm {
namespace {

struct Checked {
  const char* operation;
  std::string_view name;

  template <typename... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw UsageError(concat(operation, " '", name, "': ", parts...));
  }
  void buffer(const char* what, const Tensor& t, int64_t elements) const {
    if (!t.defined()) fail("there is no ", what, " buffer");
    if (!t.is_contiguous()) fail("the ", what, " buffer is not contiguous");
    if (t.numel() != elements)
      fail("the ", what, " buffer has ", t.numel(), " elements, the counts ask for ", elements);
  }
  void counts(const Communicator& group, Counts given) const {
    if (given.size() != static_cast<size_t>(group.size())) fail(given.size(), " counts for ", group.size(), " ranks");
    const auto negative = std::find_if(given.begin(), given.end(), [](int64_t n) { return n < 0; });
    if (negative != given.end()) fail("a count of ", *negative);
  }
  void alike(const Tensor& out, const Tensor& in) const {
    if (out.scalar_type() != in.scalar_type())
      fail("the buffers are ", c10::toString(out.scalar_type()), " and ", c10::toString(in.scalar_type()));
    if (out.device() != in.device()) fail("the buffers are on ", out.device().str(), " and ", in.device().str());
  }
  void summable(const Tensor& t) const {
    if (t.scalar_type() == at::kBool) fail("truth values are not summed");
  }
  void member(const Communicator& group, int rank) const {
    if (rank < 0 || rank >= group.size()) fail("there is no rank ", rank, " among ", group.size());
  }
};

int64_t own(const Communicator& group, Counts counts) { return counts[static_cast<size_t>(group.rank())]; }

}  // namespace

void check_all_to_all(const Communicator& group, const Tensor& out, const Tensor& in, Counts from, Counts to,
                      std::string_view name) {
  const Checked c{"all_to_all", name};
  c.counts(group, from);
  c.counts(group, to);
  c.buffer("output", out, sum(from));
  c.buffer("input", in, sum(to));
  c.alike(out, in);
  if (own(group, from) != own(group, to))
    c.fail("rank ", group.rank(), " sends itself ", own(group, to), " elements and takes ", own(group, from));
}

void check_all_gather(const Communicator& group, const Tensor& out, const Tensor& in, Counts counts,
                      std::string_view name) {
  const Checked c{"all_gather", name};
  c.counts(group, counts);
  c.buffer("output", out, sum(counts));
  c.buffer("input", in, own(group, counts));
  c.alike(out, in);
}

void check_reduce_scatter(const Communicator& group, const Tensor& out, const Tensor& in, Counts counts,
                          std::string_view name) {
  const Checked c{"reduce_scatter", name};
  c.counts(group, counts);
  c.buffer("output", out, own(group, counts));
  c.buffer("input", in, sum(counts));
  c.alike(out, in);
  c.summable(in);
}

void check_all_reduce(const Tensor& values, std::string_view name) {
  const Checked c{"all_reduce", name};
  c.buffer("value", values, values.defined() ? values.numel() : 0);
  c.summable(values);
}

void check_broadcast(const Communicator& group, const Tensor& values, int root, std::string_view name) {
  const Checked c{"broadcast", name};
  c.buffer("value", values, values.defined() ? values.numel() : 0);
  c.member(group, root);
}

void check_peer(const Communicator& group, const Tensor& values, int peer, std::string_view name) {
  const Checked c{"send or recv", name};
  c.buffer("value", values, values.defined() ? values.numel() : 0);
  c.member(group, peer);
  if (peer == group.rank()) c.fail("rank ", peer, " has no message for itself");
}

}  // namespace kinora::comm
