// Interpolation between two batches in one pass over memory (interpolate.h has the formulas).
//
// The weights are drawn here, from a counter-based generator: no tensor of weights is read, and none is saved
// for the backward pass.

#include "interpolate.h"

#include "dtype_switch.h"
#include "element.h"
#include "philox.h"
#include "sample_blocks.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

template <typename E>
void run_forward(const E* x, const E* y, uint64_t seed, E* o, int64_t B, int64_t N, int threads) {
  using T = typename Compute<E>::type;
  SampleBlocks(B, N).for_each(threads, [&](int64_t sample, int64_t start, int64_t n, int64_t) {
    const T e = philox_uniform(seed, sample), rest = T(1) - e;
    const E *from_x = x + start, *from_y = y + start;
    E* to = o + start;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(to + i, e * load(from_x + i) + rest * load(from_y + i));
  });
}

template <typename E>
void run_grad(const E* g, uint64_t seed, E* dx, E* dy, int64_t B, int64_t N, int threads) {
  using T = typename Compute<E>::type;
  SampleBlocks(B, N).for_each(threads, [&](int64_t sample, int64_t start, int64_t n, int64_t) {
    const T e = philox_uniform(seed, sample), rest = T(1) - e;
    const E* from = g + start;
    E *to_x = dx + start, *to_y = dy + start;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const T cotangent = load(from + i);
      store(to_x + i, e * cotangent);
      store(to_y + i, rest * cotangent);
    }
  });
}

}  // namespace

Error interpolate(const void* x, const void* y, const void* seed, void* o, int64_t B, int64_t N, DType dtype,
                  int threads) {
  const uint64_t key = *(const uint64_t*)seed;
#define RUN(E, T) run_forward((const E*)x, (const E*)y, key, (E*)o, B, N, threads)
  FASTGAN_DTYPE_SWITCH(dtype, "interpolate", RUN)
#undef RUN
}

Error interpolate_grad(const void* g, const void* seed, void* dx, void* dy, int64_t B, int64_t N, DType dtype,
                       int threads) {
  const uint64_t key = *(const uint64_t*)seed;
#define RUN(E, T) run_grad((const E*)g, key, (E*)dx, (E*)dy, B, N, threads)
  FASTGAN_DTYPE_SWITCH(dtype, "interpolate", RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
