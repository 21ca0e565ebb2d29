// The one place through which .cu files see CUDA, or the host emulator that the tests run them on.
//
// A kernel stays ordinary CUDA C++ (static __shared__ memory only); its file includes this header, starts its
// kernels with FASTGAN_LAUNCH and ends every entry point with `return launch_error();`. Compiled with
// FASTGAN_SIMT_EMULATOR by a host compiler, the same file runs block by block on the CPU (tests/emulator/).
#pragma once

#include "common.h"

#ifdef FASTGAN_SIMT_EMULATOR
#include "simt_emulator.h"
#define FASTGAN_LAUNCH(KERNEL, GRID, BLOCK, SHARED_BYTES, STREAM, ...) \
  ::simt::launch((KERNEL), (GRID), (BLOCK), (SHARED_BYTES), (STREAM), __VA_ARGS__)
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define FASTGAN_LAUNCH(KERNEL, GRID, BLOCK, SHARED_BYTES, STREAM, ...) \
  (KERNEL)<<<(GRID), (BLOCK), (SHARED_BYTES), (STREAM)>>>(__VA_ARGS__)
#endif

namespace fastgan::cuda {

// What the launch itself reports; errors inside a kernel surface at the caller's next synchronisation.
inline Error launch_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Arithmetic is done in float for the 16-bit types, in the type itself otherwise.
template <typename T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

// Rounds to nearest even into the type of the target.
__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(double x, double& to) { to = x; }
__device__ __forceinline__ void narrow(float x, __half& to) { to = __float2half_rn(x); }
__device__ __forceinline__ void narrow(float x, __nv_bfloat16& to) { to = __float2bfloat16_rn(x); }

}  // namespace fastgan::cuda
