// Minibatch discrimination on the GPU: the formulas of minibatch_discrimination.h, pair by pair, never
// stored.
//
// Why it is fast. There are B^2 K C pairs of features but only B K C features, so the arithmetic units are
// the limit, as in a matrix product whose inner step is |a - b| instead of a * b, and the same register
// tiling serves: per feature a thread makes two 128-bit shared loads for 16 pairs, that is, for 32 additions
// (|.| is a modifier of an operand and free). The floor of the forward pass is 2 B^2 K C additions: 134 M at
// B=256, K=64, C=16, which an H200 at 3e13 a second makes in 5 us, and 3.4 G or 113 us at B=1024, K=100,
// C=16. Its tensors are 1 and 6.6 MB; plain PyTorch writes the B^2 K C differences too, 0.27 and 6.7 GB. The
// exponential adds about 10 instructions per pair.
//
// The derivatives need sum_j w_ij sign(m_ic - m_jc) once the weights w_ij of a tile are known. The weights
// stay in the registers where the distances were formed: each thread adds up its own pairs, for the 16
// features that are still in shared memory, over all tiles of j, and threads meet only at the end, once per
// block, by warp shuffles. That takes 6 instructions per pair and feature for grad and 11 for grad2. A block
// owns 16 features; for C > 16 each of the n = ceil(C / 16) blocks forms the distances anew, so that grad
// takes 2 n + 4: twice the least at C = 64.
//
// Every sum has one owner and one order: no atomics, the same bits every time. The exponential is the
// accurate one: __expf, at 2 + 1.2 d ulp, would double the error that rounding d leaves, to save at most a
// tenth of the time.
#include "minibatch_discrimination.h"

#include "minibatch_discrimination_tile.cuh"

namespace fastgan::cuda {
namespace {

// Rows i per thread and blocks per multiprocessor: measured with ptxas to be the most for which nothing
// spills.
template <typename T>
using ForwardTile = Tile<typename Accumulator<T>::type, sizeof(T) == 8 ? 2 : 4, 1>;
template <typename T>
using GradTile = Tile<typename Accumulator<T>::type, sizeof(T) == 8 ? 1 : 2, 1>;
template <typename T>
using Grad2Tile = Tile<typename Accumulator<T>::type, sizeof(T) == 8 ? 1 : 2, 2>;

template <typename T>
__global__ void __launch_bounds__(kThreads, 4)
    forward_kernel(const T* __restrict__ m, T* __restrict__ o, Shape shape) {
  using Tile = ForwardTile<T>;
  __shared__ Stages<Tile> stages;
  Place place = place_of_block<Tile>(shape, 1);
  place.c0 = (count_chunks(shape.C) - 1) * kChunk;  // so that the features are taken in ascending order
  typename Tile::A sums[Tile::P] = {};
  const T* const tensors[] = {m};
  const T* const no_g = nullptr;
  for_each_tile(stages, tensors, no_g, shape, place, [&](int j0, int, auto& d, auto&) {
    to_similarity<Tile>(d, j0, shape, place);
#pragma unroll
    for (int p = 0; p < Tile::P; ++p) {
#pragma unroll
      for (int r = 0; r < Tile::R; ++r) sums[p] += d[p][r];
    }
  });
#pragma unroll
  for (int p = 0; p < Tile::P; ++p) {
    const auto sum = sum_over_row(sums[p]);
    const int i = place.i0 + thread_y() * Tile::P + p;
    if (thread_x() == 0 && i < shape.B) narrow(sum, o[static_cast<int64_t>(i) * shape.K + place.k]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 3)
    grad_kernel(const T* __restrict__ g, const T* __restrict__ m, T* __restrict__ dm, Shape shape) {
  using Tile = GradTile<T>;
  __shared__ Stages<Tile> stages;
  const Place place = place_of_block<Tile>(shape, count_chunks(shape.C));
  typename Tile::A g_i[Tile::P];
#pragma unroll
  for (int p = 0; p < Tile::P; ++p) g_i[p] = load_g(g, place.i0 + thread_y() * Tile::P + p, place.k, shape);
  typename Tile::Outputs sums = {};
  const T* const tensors[] = {m};
  for_each_tile(stages, tensors, g, shape, place, [&](int j0, int width, auto& w, auto&) {
    to_similarity<Tile>(w, j0, shape, place);
    const auto g_j = stages.g[thread_x()];
#pragma unroll
    for (int p = 0; p < Tile::P; ++p) {
#pragma unroll
      for (int r = 0; r < Tile::R; ++r) w[p][r] *= g_i[p] + g_j.at[r];
    }
    add_signed(sums, w, stages, width);
  });
  store_sums<Tile>(dm, sums, -1, shape, place);
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    grad2_kernel(const T* __restrict__ v, const T* __restrict__ g, const T* __restrict__ m,
                 T* __restrict__ gg, T* __restrict__ mm, Shape shape) {
  using Tile = Grad2Tile<T>;
  __shared__ Stages<Tile> stages;
  const Place place = place_of_block<Tile>(shape, count_chunks(shape.C));
  typename Tile::A g_i[Tile::P];
#pragma unroll
  for (int p = 0; p < Tile::P; ++p) g_i[p] = load_g(g, place.i0 + thread_y() * Tile::P + p, place.k, shape);
  typename Tile::A sums_g[Tile::P] = {};
  typename Tile::Outputs sums_m = {};
  const T* const tensors[] = {m, v};
  for_each_tile(stages, tensors, g, shape, place, [&](int j0, int width, auto& w, auto& q) {
    to_similarity<Tile>(w, j0, shape, place);
    const auto g_j = stages.g[thread_x()];
#pragma unroll
    for (int p = 0; p < Tile::P; ++p) {
#pragma unroll
      for (int r = 0; r < Tile::R; ++r) {
        const auto cq = w[p][r] * q[p][r];
        sums_g[p] += cq;
        w[p][r] = (g_i[p] + g_j.at[r]) * cq;
      }
    }
    add_signed(sums_m, w, stages, width);
  });
  store_sums<Tile>(mm, sums_m, 1, shape, place);
#pragma unroll
  for (int p = 0; p < Tile::P; ++p) {
    const auto sum = sum_over_row(sums_g[p]);
    const int i = place.i0 + thread_y() * Tile::P + p;
    if (thread_x() == 0 && place.c0 == 0 && i < shape.B)
      narrow(-sum, gg[static_cast<int64_t>(i) * shape.K + place.k]);
  }
}

// Starts kernel(arguments..., shape), one block for each tile of rows i, each k and, if features are split,
// each chunk of them; nothing where there is no block.
template <typename Tile, typename... Parameters, typename... Arguments>
Error launch(void (*kernel)(Parameters...), bool split_features, int64_t B, int64_t K, int64_t C,
             void* stream, Arguments... arguments) {
  constexpr int64_t kLimit = int64_t{1} << 30;
  if (B >= kLimit || K >= kLimit || C >= kLimit || K * C >= kLimit) {
    return "minibatch discrimination: B and K * C must be below 2^30 on CUDA";
  }
  const Shape shape{static_cast<int>(B), static_cast<int>(K), static_cast<int>(C), static_cast<int>(K * C)};
  const int64_t chunks = split_features ? count_chunks(shape.C) : 1;
  const int64_t blocks = ceil_div(shape.B, Tile::kRowsI) * K * chunks;
  if (blocks == 0) return nullptr;
  if (blocks > 0x7fffffff) return "minibatch discrimination: B * K * C is too large for one CUDA grid";
  FASTGAN_LAUNCH(kernel, static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream),
                 arguments..., shape);
  return launch_error();
}

// run(T{}) for the element type.
template <typename Run>
Error dispatch(DType dtype, Run run) {
  switch (dtype) {
    case DType::float32:
      return run(float{});
    case DType::float64:
      return run(double{});
    case DType::float16:
      return run(__half{});
    case DType::bfloat16:
      return run(__nv_bfloat16{});
  }
  return "minibatch discrimination: unknown dtype";
}

}  // namespace

Error minibatch_discrimination(const void* m, void* o, int64_t B, int64_t K, int64_t C, DType dtype,
                               void* stream) {
  return dispatch(dtype, [&](auto element) {
    using T = decltype(element);
    return launch<ForwardTile<T>>(forward_kernel<T>, false, B, K, C, stream, static_cast<const T*>(m),
                                  static_cast<T*>(o));
  });
}

Error minibatch_discrimination_grad(const void* g, const void* m, void* dm, int64_t B, int64_t K, int64_t C,
                                    DType dtype, void* stream) {
  if (C == 0) return nullptr;
  return dispatch(dtype, [&](auto element) {
    using T = decltype(element);
    return launch<GradTile<T>>(grad_kernel<T>, true, B, K, C, stream, static_cast<const T*>(g),
                               static_cast<const T*>(m), static_cast<T*>(dm));
  });
}

// With C = 0, mm is empty but gg is not: it is zero.
Error minibatch_discrimination_grad2(const void* v, const void* g, const void* m, void* gg, void* mm,
                                     int64_t B, int64_t K, int64_t C, DType dtype, void* stream) {
  return dispatch(dtype, [&](auto element) {
    using T = decltype(element);
    return launch<Grad2Tile<T>>(grad2_kernel<T>, true, B, K, C, stream, static_cast<const T*>(v),
                                static_cast<const T*>(g), static_cast<const T*>(m), static_cast<T*>(gg),
                                static_cast<T*>(mm));
  });
}

}  // namespace fastgan::cuda
