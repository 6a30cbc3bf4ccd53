// In what form a cache keeps a value until it is taken again.
#pragma once

#include <cstdint>
#include <string_view>

#include "kinora/nn/run.h"

namespace kinora::cache {

/// same: as it is, without a copy. float32: of use for tests. bfloat16: each number is off by at most 1/256 of itself.
/// int8: a byte each and a float32 scale for each row (last dim); each number is off by at most 1/254 of the largest
/// magnitude of its row (ops/int8_rows.h). What comes back has the dtype that it had, which rounds once more.
enum class Form : uint8_t { same, float32, bfloat16, int8 };

/// Throws UsageError that names the forms.
Form form_of(std::string_view name);

struct Kept {
  Tensor values;
  Tensor scales;  ///< of int8 alone
  at::ScalarType dtype = at::kFloat;
};

/// Tensors without rows (fewer than two dims) and those that are not floating stay as they are. The memory counts as
/// MemoryKind::caches from here on.
Kept kept_as(const Tensor& value, Form form);
/// The value again; for Form::same the tensor that was given.
Tensor restored(const Kept& kept);
/// Group `at` of `groups` equal ones along dimension 0; views.
Kept part_of(const Kept& kept, size_t at, size_t groups);

/// Bytes that a row of `width` numbers of `element_bytes` takes.
int64_t row_bytes(Form form, int64_t width, int64_t element_bytes);

}  // namespace kinora::cache
