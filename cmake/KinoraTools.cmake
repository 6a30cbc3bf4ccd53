# Build speed (ccache, mold where present) and the warnings that every own target gets.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # A precompiled header is cached only when its own time stamps are left out of the key.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
endif()
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_link_options(-fuse-ld=mold)
endif()

add_library(kinora_flags INTERFACE)
target_include_directories(kinora_flags INTERFACE "${CMAKE_SOURCE_DIR}/src")
# g++ 12 sees overlapping copies in "text" + std::string (its bug 105651): -Wno-restrict.
# -fPIC for programs too: they share the precompiled header with the libraries. Designated initialisers leave fields out on purpose.
target_compile_options(kinora_flags INTERFACE -fPIC -Wall -Wextra -Wshadow -Wno-missing-field-initializers $<$<BOOL:${KINORA_WERROR}>:-Werror>
  "-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=" $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
