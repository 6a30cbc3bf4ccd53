#define KINORA_SIMD baseline
#include "kinora/ops/fused_rows.inl"
