// A random point on the line between two samples, for every sample of a batch.
//
// Tensors are dense [B, N]: whatever lies in a sample, in one memory order for all. e_i is the i-th number of
// U[0, 1) for the seed that the int64 at `seed` holds (philox.h).
//   interpolate        o_i  = e_i x_i + (1 - e_i) y_i
//   interpolate_grad   dx_i = e_i g_i,  dy_i = (1 - e_i) g_i        g: cotangent of o
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

#define FASTGAN_DECLARE(ISA)                                                                        \
  namespace ISA {                                                                                   \
  Error interpolate(const void* x, const void* y, const void* seed, void* o, int64_t B, int64_t N,  \
                    DType dtype, int threads);                                                      \
  Error interpolate_grad(const void* g, const void* seed, void* dx, void* dy, int64_t B, int64_t N, \
                         DType dtype, int threads);                                                 \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

}  // namespace fastgan
