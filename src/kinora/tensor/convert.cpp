#include "kinora/tensor/convert.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kinora/base/error.h"
#include "kinora/tensor/allocator.h"

namespace kinora {
namespace {

constexpr std::array<std::pair<DType, at::ScalarType>, 12> kTypes = {{{DType::F64, at::kDouble},
                                                                      {DType::F32, at::kFloat},
                                                                      {DType::F16, at::kHalf},
                                                                      {DType::BF16, at::kBFloat16},
                                                                      {DType::I64, at::kLong},
                                                                      {DType::I32, at::kInt},
                                                                      {DType::I16, at::kShort},
                                                                      {DType::I8, at::kChar},
                                                                      {DType::U8, at::kByte},
                                                                      {DType::BOOL, at::kBool},
                                                                      {DType::F8_E4M3, at::kFloat8_e4m3fn},
                                                                      {DType::F8_E5M2, at::kFloat8_e5m2}}};

/// Pages of a file that nobody needs any more would count as resident until the mapping ends.
void let_go(std::span<const std::byte> bytes) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(bytes.data()) + page - 1) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size()) / page * page;
  // Whoever looks again reads them from the file.
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

at::Tensor view(const std::shared_ptr<const SafetensorsFile>& file, const TensorEntry& entry,
                std::span<const std::byte> bytes, Ledger* ledger) {
  auto held = std::make_shared<Held>();
  if (ledger != nullptr) *held = Held(*ledger, MemoryKind::mapped, bytes.size());
  // The deleter's copies are what keeps the mapping and the count alive.
  const auto keep = [file, held, bytes](void*) { let_go(bytes); };
  // ATen has no read-only tensors; the mapping itself refuses writes.
  void* const data = const_cast<std::byte*>(bytes.data());
  return at::from_blob(data, entry.shape, keep, at::TensorOptions(to_scalar_type(entry.dtype)));
}

at::Tensor copy(const TensorEntry& entry, std::span<const std::byte> bytes) {
  const CountAs weights(MemoryKind::weights);
  at::Tensor out = at::empty(entry.shape, at::TensorOptions(to_scalar_type(entry.dtype)));
  std::memcpy(out.mutable_data_ptr(), bytes.data(), bytes.size());
  return out;
}

}  // namespace

at::ScalarType to_scalar_type(DType dtype) {
  for (const auto& [file_type, type] : kTypes) {
    if (file_type == dtype) return type;
  }
  throw UsageError(concat("no tensor type for ", dtype_name(dtype)));
}

DType to_dtype(at::ScalarType type) {
  for (const auto& [file_type, known] : kTypes) {
    if (known == type) return file_type;
  }
  throw UsageError(concat("tensors of type ", at::toString(type), " cannot be written to a file"));
}

at::Tensor load_tensor(const std::shared_ptr<const SafetensorsFile>& file, const TensorEntry& entry,
                       std::optional<at::ScalarType> dtype, Ledger* ledger) {
  const auto bytes = file->bytes(entry);
  const at::ScalarType stored = to_scalar_type(entry.dtype);
  const at::ScalarType wanted = dtype.value_or(stored);
  if (bytes.empty()) return at::empty(entry.shape, at::TensorOptions(wanted));
  if (entry.dtype == DType::BOOL) {
    // Any other byte in a C++ bool is undefined behaviour.
    const auto bad = std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return std::to_integer<int>(b) > 1; });
    if (bad != bytes.end()) {
      throw DataError(concat("'", file->path().string(), "': tensor \"", entry.name, "\" is BOOL but holds the byte ",
                             std::to_integer<int>(*bad)));
    }
  }
  const bool is_aligned = reinterpret_cast<uintptr_t>(bytes.data()) % dtype_bytes(entry.dtype) == 0;
  if (wanted == stored) return is_aligned ? view(file, entry, bytes, ledger) : copy(entry, bytes);
  const at::Tensor source = is_aligned ? view(file, entry, bytes, nullptr) : copy(entry, bytes);
  const CountAs weights(MemoryKind::weights);
  return source.to(wanted);
}

at::Tensor load_tensor(const CheckpointTensor& tensor, std::optional<at::ScalarType> dtype, Ledger* ledger) {
  return load_tensor(tensor.file, *tensor.entry, dtype, ledger);
}

void check_finite(const at::Tensor& tensor, std::string_view name, const std::filesystem::path& file) {
  if (!at::isFloatingType(tensor.scalar_type()) || tensor.numel() == 0) return;
  const bool is_eight_bits = tensor.element_size() == 1;  // isfinite has no kernel for them
  constexpr int64_t kPiece = int64_t{1} << 20;            // isfinite takes more memory than what it looks at
  int64_t bad = 0;
  for (const at::Tensor& piece : tensor.flatten().split(kPiece)) {
    bad += at::isfinite(is_eight_bits ? piece.to(at::kFloat) : piece).logical_not().sum().item<int64_t>();
  }
  if (bad > 0) {
    throw DataError(concat("'", file.string(), "': tensor \"", name, "\" holds ", bad, " values of ", tensor.numel(),
                           " that are NaN or infinite"),
                    "fetch the file again");
  }
}

void save_tensors(const std::filesystem::path& path, const NamedTensors& tensors, const Metadata& metadata) {
  std::vector<const NamedTensors::value_type*> order;
  for (const auto& named : tensors) {
    if (!named.second.defined())
      throw UsageError(concat("tensor \"", named.first, "\" is undefined and cannot be saved"));
    order.push_back(&named);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->second.element_size() > b->second.element_size(); });
  std::vector<SafetensorsWriter::Spec> specs;
  for (const auto* named : order) {
    specs.push_back({named->first, to_dtype(named->second.scalar_type()), named->second.sizes().vec()});
  }
  SafetensorsWriter writer(path, specs, metadata);
  for (const auto* named : order) {
    const at::Tensor whole = named->second.detach().to(at::kCPU).contiguous().resolve_conj().resolve_neg();
    writer.write({static_cast<const std::byte*>(whole.const_data_ptr()), whole.nbytes()});
  }
  writer.commit();
}

}  // namespace kinora
