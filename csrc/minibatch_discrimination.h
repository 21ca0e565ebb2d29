// Minibatch discrimination (Salimans et al. 2016, section 3.2) and its first two derivatives.
//
// With m of shape [B, K, C], contiguous, and c_ijk = exp(-sum_c |m_ikc - m_jkc|), S_ijkc = sign(m_ikc -
// m_jkc):
//
//   forward   o_ik   =  sum_{j != i} c_ijk
//   grad      dm_ikc = -sum_j (g_ik + g_jk) c_ijk S_ijkc                  g: cotangent of o
//   grad2     for a cotangent v of dm, with q_ijk = sum_c (v_ikc - v_jkc) S_ijkc:
//             gg_ik  = -sum_j c_ijk q_ijk                                 cotangent of g
//             mm_ikc =  sum_j (g_ik + g_jk) c_ijk q_ijk S_ijkc            cotangent of m
//
// sign(0) = 0, as in PyTorch. Sums are taken in float32 (float64 for float64) in an order that does not
// depend on the number of threads. Nothing of size B x B is ever stored.
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

#define FASTGAN_DECLARE(ISA)                                                                            \
  namespace ISA {                                                                                       \
  Error minibatch_discrimination(const void* m, void* o, int64_t B, int64_t K, int64_t C, DType dtype,  \
                                 int threads);                                                          \
  Error minibatch_discrimination_grad(const void* g, const void* m, void* dm, int64_t B, int64_t K,     \
                                      int64_t C, DType dtype, int threads);                             \
  Error minibatch_discrimination_grad2(const void* v, const void* g, const void* m, void* gg, void* mm, \
                                       int64_t B, int64_t K, int64_t C, DType dtype, int threads);      \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

namespace cuda {
Error minibatch_discrimination(const void* m, void* o, int64_t B, int64_t K, int64_t C, DType dtype,
                               void* stream);
Error minibatch_discrimination_grad(const void* g, const void* m, void* dm, int64_t B, int64_t K, int64_t C,
                                    DType dtype, void* stream);
Error minibatch_discrimination_grad2(const void* v, const void* g, const void* m, void* gg, void* mm,
                                     int64_t B, int64_t K, int64_t C, DType dtype, void* stream);
}  // namespace cuda

}  // namespace fastgan
