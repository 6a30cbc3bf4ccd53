// Whether a test runs under the address sanitizer, whose red zones and freed memory count as the process's.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define KINORA_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KINORA_TEST_ASAN 1
#endif
#endif

namespace kinora {

#ifdef KINORA_TEST_ASAN
inline constexpr bool kIsAsan = true;
#else
inline constexpr bool kIsAsan = false;
#endif

}  // namespace kinora
