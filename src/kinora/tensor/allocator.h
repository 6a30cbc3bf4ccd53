// The allocator that counts every CPU tensor in a ledger. The program installs it in its main; the library never does.
#pragma once

#include <ATen/ATen.h>

#include "kinora/tensor/ledger.h"

namespace kinora {

/// From here on CPU tensors are allocated through a counting allocator (64-byte aligned, as LibTorch's own) that feeds
/// `ledger`; tensors from before are freed as before and never counted. The ledger must live until the process ends.
/// Call it before other threads use tensors; a second call directs new tensors to another ledger.
/// Out of memory is then a ResourceError.
void install_counting_allocator(Ledger& ledger);

/// Tensors that this thread allocates while the object lives are counted under `kind` instead of activations. Nests.
class CountAs {
 public:
  explicit CountAs(MemoryKind kind);
  ~CountAs();
  CountAs(const CountAs&) = delete;
  CountAs& operator=(const CountAs&) = delete;

 private:
  MemoryKind before_;
};

/// Gives the memory behind an existing tensor another kind, such as caches for what a policy keeps. All tensors that
/// share the storage follow. Nothing happens to memory that the counting allocator did not make. Not thread-safe per
/// tensor.
void recount_as(const at::Tensor& tensor, MemoryKind kind);

}  // namespace kinora
