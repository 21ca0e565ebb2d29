// The walk over tiles of pairs (i, j) that the kernels of minibatch_discrimination.cu share.
//
// A block owns kRowsI rows i of one k and meets the rows j, kRowsJ at a time, in ascending order. Its threads
// form a 16 x 16 square; thread (ty, tx) holds the pairs of P rows i = ty * P + p with R rows j = tx * R + r
// in registers. R elements are one 128-bit shared load: 4 for float, 2 for double. P is chosen per kernel so
// that nothing spills.
#pragma once

#include "cuda_launch.h"

namespace fastgan::cuda {
namespace {

constexpr int kSide = 16;
constexpr int kThreads = kSide * kSide;
constexpr int kChunk = 16;  // features staged at a time, and outputs c of one block

// `kTensors` is 1 where only m is read, 2 where v is read beside it.
template <typename A_, int P_, int kTensors_>
struct Tile {
  using A = A_;
  static constexpr int kTensors = kTensors_;
  static constexpr int P = P_;
  static constexpr int R = 16 / static_cast<int>(sizeof(A));
  static constexpr int kRowsI = kSide * P;
  static constexpr int kRowsJ = kSide * R;

  using Pairs = A[P][R];
  using Outputs = A[P * kChunk];  // [p][c]
};

template <typename A, int N>
struct alignas(N * sizeof(A)) Vector {
  A at[N];
};

// The padding keeps vectors aligned, and leaves the transposing store two-way bank conflicts where it had
// sixteen-way.
template <typename A, int N>
struct Stage {
  Vector<A, N> at[kChunk][kSide + 1];  // [c][row / N]
};

template <typename Tile>
struct Stages {
  Stage<typename Tile::A, Tile::P> i[Tile::kTensors];
  Stage<typename Tile::A, Tile::R> j[Tile::kTensors];
  Vector<typename Tile::A, Tile::R> g[kSide];  // of the rows j
};

// 32 bits save registers; the entry points refuse sizes that do not fit. Offsets into a tensor take 64 bits.
struct Shape {
  int B, K, C, KC;
};

// What one block computes: the rows i0 + [0, kRowsI) of k, and for the derivatives the features c0 + [0,
// kChunk).
struct Place {
  int i0, k, c0;
};

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// C = 0 still has one, empty, chunk: every distance is then 0.
__host__ __device__ constexpr int count_chunks(int C) { return C > kChunk ? ceil_div(C, kChunk) : 1; }

// Block number -> place; neighbouring blocks share a k, so that the rows j they read are in the cache.
template <typename Tile>
__device__ __forceinline__ Place place_of_block(Shape shape, int chunks) {
  const int tiles = ceil_div(shape.B, Tile::kRowsI);
  const int block = static_cast<int>(blockIdx.x);
  const int rest = block / tiles;
  return {(block % tiles) * Tile::kRowsI, rest / chunks, (rest % chunks) * kChunk};
}

__device__ __forceinline__ int thread_x() { return threadIdx.x % kSide; }
__device__ __forceinline__ int thread_y() { return threadIdx.x / kSide; }

// A NaN has sign 0 here, but its pair's weight is NaN and NaN * 0 stays NaN.
template <typename A>
__device__ __forceinline__ A sign(A x, A y) {
  return static_cast<A>(x > y) - static_cast<A>(x < y);
}

// Zeros outside the tensor, where nothing is read.
template <typename T, typename A, int N>
__device__ __forceinline__ void load_stage(Stage<A, N>& stage, const T* x, int row0, int c0, int k,
                                           Shape shape) {
  const int c = thread_x();
  const int column = k * shape.C + c0 + c;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int row = n * kSide + thread_y();
    const bool inside = row0 + row < shape.B && c0 + c < shape.C;
    const A value = inside ? widen(x[static_cast<int64_t>(row0 + row) * shape.KC + column]) : A(0);
    stage.at[c][row / N].at[row % N] = value;
  }
}

template <typename T>
__device__ __forceinline__ auto load_g(const T* g, int row, int k, Shape shape) {
  using A = typename Accumulator<T>::type;
  return row < shape.B ? widen(g[static_cast<int64_t>(row) * shape.K + k]) : A(0);
}

// d += |m_i - m_j| and, where v is staged too, q += (v_i - v_j) sign(m_i - m_j), for one feature.
template <typename Tile>
__device__ __forceinline__ void add_feature(const Stages<Tile>& stages, int c, typename Tile::Pairs& d,
                                            typename Tile::Pairs& q) {
  const auto x = stages.i[0].at[c][thread_y()];
  const auto y = stages.j[0].at[c][thread_x()];
#pragma unroll
  for (int p = 0; p < Tile::P; ++p) {
#pragma unroll
    for (int r = 0; r < Tile::R; ++r) d[p][r] += fabs(x.at[p] - y.at[r]);
  }
  if constexpr (Tile::kTensors == 2) {
    const auto v_i = stages.i[1].at[c][thread_y()];
    const auto v_j = stages.j[1].at[c][thread_x()];
#pragma unroll
    for (int p = 0; p < Tile::P; ++p) {
#pragma unroll
      for (int r = 0; r < Tile::R; ++r) q[p][r] += (v_i.at[p] - v_j.at[r]) * sign(x.at[p], y.at[r]);
    }
  }
}

// Calls finish(j0, width, d, q) for each tile of rows j. The chunks of features are taken in a cycle that
// ends with the block's own, so that finish still finds features place.c0 + [0, width) in `stages`. Without
// g, it is nullptr.
template <typename Tile, typename T, typename Finish>
__device__ __forceinline__ void for_each_tile(Stages<Tile>& stages, const T* const (&tensors)[Tile::kTensors],
                                              const T* g, Shape shape, Place place, Finish finish) {
  for (int j0 = 0; j0 < shape.B; j0 += Tile::kRowsJ) {
    typename Tile::Pairs d = {};
    typename Tile::Pairs q = {};
    int width;
    int c0 = place.c0;
    do {
      c0 = c0 + kChunk < shape.C ? c0 + kChunk : 0;
      width = shape.C - c0 < kChunk ? shape.C - c0 : kChunk;
      __syncthreads();
#pragma unroll
      for (int t = 0; t < Tile::kTensors; ++t) {
        if (j0 == 0 || shape.C > kChunk) load_stage(stages.i[t], tensors[t], place.i0, c0, place.k, shape);
        load_stage(stages.j[t], tensors[t], j0, c0, place.k, shape);
      }
      if (g != nullptr && threadIdx.x < Tile::kRowsJ) {
        const int row = threadIdx.x;
        stages.g[row / Tile::R].at[row % Tile::R] = load_g(g, j0 + row, place.k, shape);
      }
      __syncthreads();
#pragma unroll 4
      for (int c = 0; c < width; ++c) add_feature(stages, c, d, q);
    } while (c0 != place.c0);
    finish(j0, width, d, q);
  }
}

// d becomes c_ij = exp(-d), and 0 where j is i or outside the batch.
template <typename Tile>
__device__ __forceinline__ void to_similarity(typename Tile::Pairs& d, int j0, Shape shape, Place place) {
  const int rows = shape.B - j0;
  const auto infinity = static_cast<typename Tile::A>(HUGE_VALF);
  const int self = place.i0 - j0 + thread_y() * Tile::P - thread_x() * Tile::R;
#pragma unroll
  for (int p = 0; p < Tile::P; ++p) {
#pragma unroll
    for (int r = 0; r < Tile::R; ++r) {
      const bool absent = r - p == self || thread_x() * Tile::R + r >= rows;
      d[p][r] = exp(absent ? -infinity : -d[p][r]);  // this way round there is no branch
    }
  }
}

// sums[p][c] += sum_r w[p][r] sign(m_i - m_j), for the features that `stages` holds.
template <typename Tile>
__device__ __forceinline__ void add_signed(typename Tile::Outputs& sums, const typename Tile::Pairs& w,
                                           const Stages<Tile>& stages, int width) {
#pragma unroll
  for (int c = 0; c < kChunk; ++c) {  // to the full chunk and unrolled, because `sums` lives in registers
    if (c < width) {
      const auto x = stages.i[0].at[c][thread_y()];
      const auto y = stages.j[0].at[c][thread_x()];
#pragma unroll
      for (int p = 0; p < Tile::P; ++p) {
#pragma unroll
        for (int r = 0; r < Tile::R; ++r) sums[p * kChunk + c] += w[p][r] * sign(x.at[p], y.at[r]);
      }
    }
  }
}

// Sums `value` over the 16 threads of a row; every one of them receives the sum.
template <typename A>
__device__ __forceinline__ A sum_over_row(A value) {
#pragma unroll
  for (int lanes = kSide / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  return value;
}

// Sums kOwn * 16 values over the 16 threads of a row: thread tx is left with values tx * kOwn + [0, kOwn), in
// front. Each step sends away the half that the partner will own: 15 kOwn shuffles where whole sums would
// take 64 kOwn.
template <int kOwn, int kLanes = kSide / 2, typename A>
__device__ __forceinline__ void reduce_scatter(A* values) {
  constexpr int kHalf = kOwn * kLanes;
  const bool upper = thread_x() & kLanes;
#pragma unroll
  for (int n = 0; n < kHalf; ++n) {
    const A sent = upper ? values[n] : values[n + kHalf];
    const A kept = upper ? values[n + kHalf] : values[n];
    values[n] = kept + __shfl_xor_sync(0xffffffffu, sent, kLanes);
  }
  if constexpr (kLanes > 1) reduce_scatter<kOwn, kLanes / 2>(values);
}

// Writes the block's kRowsI x kChunk outputs, factor times the sums over all its threads, into x of shape [B,
// K, C].
template <typename Tile, typename T>
__device__ __forceinline__ void store_sums(T* x, typename Tile::Outputs& sums, int factor, Shape shape,
                                           Place place) {
  static_assert(kChunk == kSide, "P * kChunk values are shared out among kSide threads, P each");
  reduce_scatter<Tile::P>(sums);
#pragma unroll
  for (int n = 0; n < Tile::P; ++n) {
    const int index = thread_x() * Tile::P + n;
    const int i = place.i0 + thread_y() * Tile::P + index / kChunk;
    const int c = place.c0 + index % kChunk;
    const int64_t offset = static_cast<int64_t>(i) * shape.KC + place.k * shape.C + c;
    if (i < shape.B && c < shape.C) narrow(factor * sums[n], x[offset]);
  }
}

}  // namespace
}  // namespace fastgan::cuda
