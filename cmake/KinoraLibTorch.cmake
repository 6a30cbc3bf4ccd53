# LibTorch from the PyPI wheel that deps/install.sh unpacked. libtorch_cpu.so itself needs libcudart and libcupti to
# load, which lie in wheels of their own beside it; with KINORA_CUDA the wheel's other dependencies must lie there too.
set(torch_root "${KINORA_DEPS}/torch")
if(NOT EXISTS "${torch_root}/include/ATen/ATen.h")
  message(FATAL_ERROR "LibTorch is not in ${torch_root}. Run deps/install.sh (or: make deps), or give its folder with -DKINORA_DEPS=DIR.")
endif()
set(torch_lib "${torch_root}/lib")
set(cuda_lib "${KINORA_DEPS}/nvidia/cu13/lib")
add_library(kinora_torch INTERFACE)
add_library(kinora::torch ALIAS kinora_torch)
target_include_directories(kinora_torch SYSTEM INTERFACE "${torch_root}/include" "${torch_root}/include/torch/csrc/api/include")
target_link_libraries(kinora_torch INTERFACE "${torch_lib}/libtorch_cpu.so" "${torch_lib}/libc10.so" Threads::Threads)
if(KINORA_CUDA)
  foreach(library IN ITEMS cublas cudnn nccl)
    file(GLOB_RECURSE found "${KINORA_DEPS}/nvidia/lib${library}.so*")
    if(NOT found)
      message(FATAL_ERROR "KINORA_CUDA needs a whole PyTorch, and there is no lib${library} in ${KINORA_DEPS}/nvidia. "
        "Give the folder that `pip install --target DIR torch==2.11.0` filled with -DKINORA_DEPS=DIR.")
    endif()
  endforeach()
  target_link_libraries(kinora_torch INTERFACE "${torch_lib}/libtorch_cuda.so" "${torch_lib}/libc10_cuda.so")
  # For the files that call CUDA and NCCL themselves. cuda_runtime.h includes crt/host_config.h, which has a wheel of its own.
  set(nccl_lib "${KINORA_DEPS}/nvidia/nccl/lib")
  set(cuda_headers "${KINORA_DEPS}/nvidia/nccl/include" "${KINORA_DEPS}/nvidia/cu13/include")
  find_path(KINORA_CUDA_CRT crt/host_config.h PATHS "${KINORA_DEPS}/nvidia/cu13/include" /usr/local/cuda/include)
  if(NOT KINORA_CUDA_CRT)
    message(FATAL_ERROR "KINORA_CUDA needs crt/host_config.h of CUDA's toolkit, or of the wheel nvidia-cuda-crt: "
      "`pip install --target DIR torch==2.11.0 nvidia-cuda-crt==13.0.88` and -DKINORA_DEPS=DIR.")
  endif()
  list(APPEND cuda_headers "${KINORA_CUDA_CRT}")
endif()
target_link_options(kinora_torch INTERFACE
  "LINKER:--no-as-needed" "LINKER:--allow-shlib-undefined" "LINKER:-rpath,${torch_lib}" "LINKER:-rpath,${cuda_lib}" "LINKER:--disable-new-dtags")

# ATen costs about 9 s in each file that includes it: one precompiled header for all.
file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/pch/pch.cpp" CONTENT "")  # written once: a new time would build everything anew
add_library(kinora_pch OBJECT "${CMAKE_BINARY_DIR}/pch/pch.cpp")
target_link_libraries(kinora_pch PUBLIC kinora_flags kinora_torch)
target_precompile_headers(kinora_pch PRIVATE <ATen/ATen.h> <ATen/core/dispatch/Dispatcher.h> <torch/library.h> <functional> <map> <memory> <optional> <span> <string> <string_view> <vector>)
