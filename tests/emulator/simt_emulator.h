// CUDA C++ on the host, for tests: an unmodified .cu, compiled by a C++ compiler, runs block after block.
//
// The threads of a block are fibres. One runs until it meets a barrier or a warp-wide operation, then another
// gets its turn, in an order that set_order chooses: a kernel whose result depends on the order lacks a
// barrier. Shared memory is filled with 0xff, a NaN, at the start of every block, so that what is read before
// it was written shows. Threads that wait for each other in vain (a barrier that some skipped, a shuffle
// whose mask names absent lanes) are an error that names the block; the launch reports it through
// cudaGetLastError like any other.
//
// Stricter than the hardware: a lane that has exited counts as absent, and barriers in different lines as
// different. Not emulated: dynamic shared memory, clusters, cooperative groups, textures, half-precision
// arithmetic. One host thread at a time may launch.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "simt_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(BYTES) __attribute__((aligned(BYTES)))
// Thread-local, because all of a library's thread-local memory is one range, which the emulator finds and
// fills without knowing the kernels. (A section attribute would be simpler, but GCC ignores it inside
// templates.)
#define __shared__ static thread_local

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

typedef struct CUstream_st* cudaStream_t;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorLaunchFailure = 719 };
cudaError_t cudaGetLastError();                     // and forgets it
const char* cudaGetErrorString(cudaError_t error);  // of the last error; static storage

namespace simt {

// The order in which the threads of a block, and the blocks of a grid, take their turns.
enum class Order : int { forward = 0, reverse = 1, random = 2 };
extern "C" __attribute__((visibility("default"))) void simt_set_order(Order order, uint64_t seed);

enum class Operation { shuffle, ballot, sync };

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void*), void* context);
void block_barrier(const char* file, int line);
// Waits for the lanes of `mask`; gives the value of lane `source` (shuffle) or the lanes with value != 0
// (ballot).
uint64_t warp_meet(Operation operation, unsigned mask, uint64_t value, int source);
int lane();

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
            Arguments... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> parameters;
  } call{kernel, {static_cast<Parameters>(arguments)...}};
  const auto body = [](void* context) {
    auto* call = static_cast<Call*>(context);
    std::apply(call->kernel, call->parameters);
  };
  run_grid(grid, block, shared_bytes, body, &call);
}

template <typename T>
T shuffle(unsigned mask, T value, int source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "warp shuffles move 4 or 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = warp_meet(Operation::shuffle, mask, bits, source);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace simt

#define __syncthreads() ::simt::block_barrier(__FILE__, __LINE__)

inline void __syncwarp(unsigned mask = 0xffffffffu) { simt::warp_meet(simt::Operation::sync, mask, 0, 0); }

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return static_cast<unsigned>(simt::warp_meet(simt::Operation::ballot, mask, predicate != 0, 0));
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

// A source lane beyond the segment of `width` lanes means the thread's own value.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize) {
  return simt::shuffle(mask, value, (simt::lane() & ~(width - 1)) + (source & (width - 1)));
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const int lane = simt::lane(), source = lane - static_cast<int>(delta);
  return simt::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const int lane = simt::lane(), source = lane + static_cast<int>(delta);
  return simt::shuffle(mask, value, source >= (lane & ~(width - 1)) + width ? lane : source);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize) {
  const int lane = simt::lane(), source = lane ^ lanes;
  return simt::shuffle(mask, value, source >= (lane & ~(width - 1)) + width ? lane : source);
}

// Threads give way only at barriers and warp operations, so plain arithmetic is atomic.
#define SIMT_ATOMIC(NAME, EXPRESSION)                                      \
  template <typename T>                                                    \
  T NAME(T* address, decltype(T() + T()) value) { /* converts as CUDA's */ \
    const T old = *address;                                                \
    *address = static_cast<T>(EXPRESSION);                                 \
    return old;                                                            \
  }
SIMT_ATOMIC(atomicAdd, old + value)
SIMT_ATOMIC(atomicMax, old < value ? value : old)
SIMT_ATOMIC(atomicMin, value < old ? value : old)
SIMT_ATOMIC(atomicExch, value)
#undef SIMT_ATOMIC

template <typename T>
T __ldg(const T* address) {
  return *address;
}

using std::max;
using std::min;
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline int __float_as_int(float x) { return simt::bit_cast<int>(x); }
inline float __int_as_float(int x) { return simt::bit_cast<float>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
