#define KINORA_SIMD avx512
#include "kinora/ops/fused_rows.inl"
