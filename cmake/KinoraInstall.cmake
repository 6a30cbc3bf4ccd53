# make install: the program, libkinora with its headers, the built-in model, and what build systems and shells look for.
# LibTorch stays where it was at build time, so that an install is for the same machine.
include(CMakePackageConfigHelpers)

install(TARGETS kinora_shared EXPORT kinora_targets LIBRARY DESTINATION lib)
target_include_directories(kinora_shared INTERFACE $<INSTALL_INTERFACE:include>)
target_compile_features(kinora_shared INTERFACE cxx_std_20)
# libtorch_cpu.so has names that only its neighbours define.
target_link_options(kinora_shared INTERFACE "LINKER:--allow-shlib-undefined")

# kinora.h and what it includes; tests/embed_test.py compiles against these alone.
foreach(header IN ITEMS kinora.h base/error.h base/file.h base/log.h media/ffmpeg.h media/frames.h media/metadata.h media/output.h
    media/process.h)
  get_filename_component(folder "${header}" DIRECTORY)
  install(FILES "${CMAKE_SOURCE_DIR}/src/kinora/${header}" DESTINATION "include/kinora/${folder}")
endforeach()

set(KINORA_TORCH_ROOT "${torch_root}")
file(STRINGS "${torch_root}/include/torch/headeronly/version.h" version_line REGEX "^ *\"[0-9.]+\"")
string(REGEX REPLACE "[ \"]" "" KINORA_TORCH_VERSION "${version_line}")
configure_package_config_file(cmake/kinoraConfig.cmake.in "${CMAKE_BINARY_DIR}/kinoraConfig.cmake"
  INSTALL_DESTINATION lib/cmake/kinora NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${CMAKE_BINARY_DIR}/kinoraConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(EXPORT kinora_targets FILE kinoraTargets.cmake NAMESPACE kinora:: DESTINATION lib/cmake/kinora)
install(FILES "${CMAKE_BINARY_DIR}/kinoraConfig.cmake" "${CMAKE_BINARY_DIR}/kinoraConfigVersion.cmake"
  DESTINATION lib/cmake/kinora)
configure_file(cmake/kinora.pc.in "${CMAKE_BINARY_DIR}/kinora.pc" @ONLY)
install(FILES "${CMAKE_BINARY_DIR}/kinora.pc" DESTINATION lib/pkgconfig)

# The program writes the scripts itself, under the names by which the shells find them.
install(CODE "
  function(install_completion shell folder name)
    set(file \"${CMAKE_BINARY_DIR}/completions/\${shell}/\${name}\")
    file(MAKE_DIRECTORY \"${CMAKE_BINARY_DIR}/completions/\${shell}\")
    execute_process(COMMAND \"$<TARGET_FILE:kinora>\" completion \${shell} OUTPUT_FILE \"\${file}\" COMMAND_ERROR_IS_FATAL ANY)
    file(INSTALL \"\${file}\" DESTINATION \"\${CMAKE_INSTALL_PREFIX}/share/\${folder}\")
  endfunction()
  install_completion(bash bash-completion/completions kinora)
  install_completion(zsh zsh/site-functions _kinora)
  install_completion(fish fish/vendor_completions.d kinora.fish)
")
