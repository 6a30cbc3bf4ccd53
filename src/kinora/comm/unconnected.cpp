#include "kinora/comm/unconnected.h"

#include <stdexcept>

#include "kinora/base/error.h"

namespace kinora::comm {
namespace {

class Unconnected final : public Communicator {
 public:
  explicit Unconnected(int size) : size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  std::unique_ptr<Work> all_to_all(Tensor, const Tensor&, Counts, Counts, std::string_view name) override {
    return refuse(name);
  }
  std::unique_ptr<Work> all_gather(Tensor, const Tensor&, Counts, std::string_view name) override {
    return refuse(name);
  }
  std::unique_ptr<Work> reduce_scatter(Tensor, const Tensor&, Counts, std::string_view name) override {
    return refuse(name);
  }
  std::unique_ptr<Work> all_reduce(Tensor, std::string_view name) override { return refuse(name); }
  std::unique_ptr<Work> broadcast(Tensor, int, std::string_view name) override { return refuse(name); }
  std::unique_ptr<Work> send(const Tensor&, int, std::string_view name) override { return refuse(name); }
  std::unique_ptr<Work> recv(Tensor, int, std::string_view name) override { return refuse(name); }
  void barrier(std::string_view name) override { refuse(name); }
  void rendezvous(std::string_view name) override { refuse(name); }
  std::unique_ptr<Communicator> split(int, int) override {
    refuse("split");
    return nullptr;
  }

 private:
  std::unique_ptr<Work> refuse(std::string_view name) const {
    throw std::logic_error(concat(name, ": the other ", size_ - 1, " ranks are not there"));
  }
  int size_;
};

}  // namespace

std::unique_ptr<Communicator> unconnected(int size) { return std::make_unique<Unconnected>(size); }

}  // namespace kinora::comm
