// The penalty on the norm of each sample's gradient, and the products with it that training needs.
//
// g is dense [B, N]: whatever lies in a sample, in any one memory order. With n_i = |grad_scale| |g_i|, w the
// weight and t the target:
//
//            no target (t = NaN)    target                  one-sided
//   r(n)     w/2 n^2                w (n - t)^2             w max(0, n - t)^2
//   c(n)     w                      2 w (1 - t/n)           2 w (1 - t/n) where n > t, else 0
//
// c(n) is r'(n)/n, with c(0) = 0 where there is a target: the subgradient 0 of the norm, as in PyTorch.
//   gradient_norm_penalty        penalty_i = r(n_i), norm_i = n_i, and, unless u is nullptr,
//                                u_i = s_i x_i + scale grad_scale c(n_i) g_i; s = nullptr: no first term
//   gradient_norm_penalty_grad   dg_i = p_i c(n_i) g_i      p: cotangent of the penalty (grad_scale = 1)
// penalty, norm, s and p are [B] in the type of the arithmetic (float; double for float64). Squares are
// summed in double, which no float overflows, in an order that does not depend on the number of threads.
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

struct NormPenaltyArgs {
  int64_t B, N;
  double weight, target;
  bool one_sided;
  double scale, grad_scale;
  DType dtype;
  int threads;
};

#define FASTGAN_DECLARE(ISA)                                                                       \
  namespace ISA {                                                                                  \
  Error gradient_norm_penalty(const void* g, const void* x, const void* s, void* u, void* penalty, \
                              void* norm, const NormPenaltyArgs& args);                            \
  Error gradient_norm_penalty_grad(const void* p, const void* g, const void* norm, void* dg,       \
                                   const NormPenaltyArgs& args);                                   \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

}  // namespace fastgan
