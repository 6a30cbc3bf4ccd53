#define KINORA_SIMD avx2
#include "kinora/ops/fused_rows.inl"
