#include "kinora/cache/form.h"

#include "kinora/base/error.h"
#include "kinora/ops/int8_rows.h"
#include "kinora/tensor/allocator.h"

namespace kinora::cache {

Form form_of(std::string_view name) {
  if (name == "same") return Form::same;
  if (name == "float32") return Form::float32;
  if (name == "bfloat16") return Form::bfloat16;
  if (name == "int8") return Form::int8;
  throw UsageError(concat("a cache cannot keep values as \"", name, "\""), "choose keep=same, bfloat16 or int8");
}

Kept kept_as(const Tensor& value, Form form) {
  Kept kept{.values = value, .dtype = value.scalar_type()};
  if (value.is_floating_point() && value.dim() >= 2 && value.size(-1) > 0) {
    if (form == Form::float32) kept.values = value.to(at::kFloat);
    if (form == Form::bfloat16) kept.values = value.to(at::kBFloat16);
    if (form == Form::int8) {
      const ops::Int8Rows rows = ops::to_int8_rows(value);
      kept.values = rows.values, kept.scales = rows.scales;
    }
  }
  recount_as(kept.values, MemoryKind::caches);
  recount_as(kept.scales, MemoryKind::caches);
  return kept;
}

Tensor restored(const Kept& kept) {
  if (kept.scales.defined()) return ops::from_int8_rows({kept.values, kept.scales}, kept.dtype);
  return kept.values.to(kept.dtype);
}

Kept part_of(const Kept& kept, size_t at, size_t groups) {
  const auto rows = [&](const Tensor& t) {
    if (!t.defined()) return t;
    const int64_t each = t.size(0) / static_cast<int64_t>(groups);
    return t.narrow(0, static_cast<int64_t>(at) * each, each);
  };
  return {rows(kept.values), rows(kept.scales), kept.dtype};
}

int64_t row_bytes(Form form, int64_t width, int64_t element_bytes) {
  switch (form) {
    case Form::same: break;
    case Form::float32: return width * static_cast<int64_t>(sizeof(float));
    case Form::bfloat16: return width * 2;
    case Form::int8: return width + static_cast<int64_t>(sizeof(float));
  }
  return width * element_bytes;
}

}  // namespace kinora::cache
