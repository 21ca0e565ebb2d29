// What the kernels of spectral_norm.cu share: the table of matrices that a launch takes by value, and sums.
//
// A product M v or M' u is left "raw" in scratch, beside the parts of the sum of its squares, one for each
// block that made some of it; who needs its norm adds up the parts (at most 1024) himself, in one order. So
// a norm costs no launch, and no block waits for another.
//
// Ranges. Sums of squares are double, and a raw vector stands for factor * raw, `factor` being a double:
// products are taken of raw vectors times the power of two that brings their norm near one, whatever eps
// makes of them, and what is missing goes into the factor. So weights of 1e-30 or 1e+30 lose nothing where
// float32 can hold the results.
#pragma once

#include "cuda_launch.h"
#include "spectral_norm.h"

#ifndef __grid_constant__  // in the emulator
#define __grid_constant__
#endif

namespace fastgan::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kMaxParts = 256;   // of a sum, where it is this file that chooses
constexpr int kMaxSlabs = 1024;  // and of one over slabs of rows
constexpr int kChunk = 4096;     // columns that one warp multiplies
constexpr int kMostRows = 8;     // that a team holds at a time
constexpr int kMaxJobs = 18;     // fills 4 KB, what every CUDA takes as parameters
constexpr int kRowWarps = 16;    // 512 threads of 128 registers fill a multiprocessor
constexpr int kRowThreads = kRowWarps * kWarp;

template <typename T>
using AccumulatorOf = typename Accumulator<T>::type;
template <typename T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));  // elements in 16 bytes

// How both products come from one read of A = 1 matrices, see take_rows; `separate` where they do not.
enum class Way : int { separate, scalar1, scalar8, warp1, warp4, block1, block2, block3, block5, block8 };

struct RawVector {
  void* at;       // AccumulatorOf<T> [length]
  double* parts;  // [count], and behind them the factor
  int length, count;
};

struct Job {
  SpectralMatrix given;
  RawVector y, t;  // M v and M' u
  void* partials;  // AccumulatorOf<T> [slabs, w] or [chunks, h]
  void* powers;    // AccumulatorOf<T> [slabs]: partials are multiplied by it
  int A, h, B, w, elements;
  int rows, slabs, chunks;  // slabs of `rows` rows, chunks of columns
  int index;                // of the matrix in the call
  Way way;
  bool wide;  // 16 bytes at a time
};

struct Table {
  Job jobs[kMaxJobs];
  int first[kMaxJobs + 1];  // blocks of job n: [first[n], first[n + 1])
};
static_assert(sizeof(Table) <= 4000, "with the other parameters, at most 4 KB");

struct Place {
  int job, block, blocks;  // the block's number in its job, and the job's number of blocks
};

__device__ __forceinline__ Place find_place(const Table& table) {
  const int block = static_cast<int>(blockIdx.x);
  int n = 0;
  while (block >= table.first[n + 1]) ++n;
  return {n, block - table.first[n], table.first[n + 1] - table.first[n]};
}

template <typename T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
  T at[N];
};

template <int N, typename T>
__device__ __forceinline__ Pack<T, N> load(const T* x) {
  return *reinterpret_cast<const Pack<T, N>*>(x);
}
template <int N, typename T>
__device__ __forceinline__ void store(const Pack<T, N>& pack, T* x) {
  *reinterpret_cast<Pack<T, N>*>(x) = pack;
}

// Makes the compiler convert 16-bit elements anew instead of keeping them as floats in twice the registers.
template <typename T, int N>
__device__ __forceinline__ void forget_conversions(Pack<T, N>& pack) {
#ifndef FASTGAN_SIMT_EMULATOR
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
#pragma unroll
    for (int n = 0; n < N / 2; ++n) asm("" : "+r"(reinterpret_cast<unsigned*>(pack.at)[n]));
  }
#endif
}

__device__ __forceinline__ int lane() { return threadIdx.x % kWarp; }

template <typename A>
__device__ __forceinline__ A warp_sum(A value) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}

// The sum of a value over the block, for thread 0.
__device__ __forceinline__ double block_sum(double value) {
  __shared__ double of_warp[kWarps];
  value = warp_sum(value);
  __syncthreads();  // the last sum may still be read
  if (lane() == 0) of_warp[threadIdx.x / kWarp] = value;
  __syncthreads();
  double sum = 0;
  for (int n = 0; n < kWarps && threadIdx.x == 0; ++n) sum += of_warp[n];
  return sum;
}

// What compute() gives in the first warp, for all threads of the block. Each place that calls it has its own
// shared variable and may do so once.
template <typename Compute>
__device__ __forceinline__ auto by_first_warp(Compute compute) {
  __shared__ decltype(compute()) shared;
  if (threadIdx.x < kWarp) {
    const auto value = compute();
    if (threadIdx.x == 0) shared = value;
  }
  __syncthreads();
  return shared;
}

// By a whole warp, like everything that calls it.
__device__ __forceinline__ double add_parts(const double* parts, int count) {
  double sum = 0;
  for (int n = lane(); n < count; n += kWarp) sum += parts[n];
  return warp_sum(sum);
}

__device__ __forceinline__ double& factor_of(const RawVector& x) { return x.parts[x.count]; }
__device__ __forceinline__ double norm_of(const RawVector& x) {
  return sqrt(add_parts(x.parts, x.count)) * factor_of(x);
}
// The larger one, or the NaN that fmax would drop.
__device__ __forceinline__ double at_least(double norm, double eps) { return norm < eps ? eps : norm; }
// x / max(|x|, eps) is this times raw.
__device__ __forceinline__ double unit_factor(const RawVector& x, double eps) {
  return factor_of(x) / at_least(norm_of(x), eps);
}
// Multiplication by a double whose range A may lack: exactly by a power of two, then by a number of [1, 2).
template <typename A>
struct Scale {
  A power, rest;
  __device__ __forceinline__ A operator()(A x) const { return x * power * rest; }
};

// The power of two in `factor`, a normal number of A.
template <typename A>
__device__ __forceinline__ double power_in(double factor) {
  constexpr int kLast = sizeof(A) == 8 ? 1022 : 126;
  return ldexp(1.0, max(-kLast, min(kLast, ilogb(factor))));
}

template <typename A>
__device__ __forceinline__ Scale<A> to_scale(double factor) {
  const double power = power_in<A>(factor);
  return {static_cast<A>(power), static_cast<A>(factor / power)};
}

// What a product takes x times.
template <typename A>
__device__ __forceinline__ A power_of(const RawVector& x) {
  return static_cast<A>(power_in<A>(1 / sqrt(add_parts(x.parts, x.count))));
}

// A vector of a product: `given`, or raw * power.
template <typename T>
struct Factor {
  using A = AccumulatorOf<T>;
  const T* given;
  const A* raw;
  A power;

  template <int N>
  __device__ __forceinline__ void load_to(A (&to)[N], int i) const {
    if (given != nullptr) {
      const auto pack = load<N>(given + i);
#pragma unroll
      for (int n = 0; n < N; ++n) to[n] = widen(pack.at[n]);
    } else {
      const auto pack = load<N>(raw + i);
#pragma unroll
      for (int n = 0; n < N; ++n) to[n] = pack.at[n] * power;
    }
  }
};

template <typename T>
__device__ __forceinline__ Factor<T> take_factor(const void* given, const RawVector& raw, bool is_given) {
  using A = AccumulatorOf<T>;
  if (is_given) return {static_cast<const T*>(given), nullptr, A(1)};
  const A power = by_first_warp([&] { return power_of<A>(raw); });
  return {nullptr, static_cast<const A*>(raw.at), power};
}

// Row and column of the element at `offset`.
struct Coordinates {
  int row, column;
};
__device__ __forceinline__ Coordinates coordinates_of(const Job& job, int offset) {
  const int segment = offset / job.B;  // a h + j
  const int a = job.A == 1 ? 0 : segment / job.h;
  return {segment - a * job.h, offset - (segment - a) * job.B};
}

}  // namespace
}  // namespace fastgan::cuda
