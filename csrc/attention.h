// Softmax attention (Vaswani et al. 2017, equation 1) and two derivatives, without the N x M matrix.
//
// For each head, with q [N, d], k [M, d], v [M, e], s the scale and h the bias:
//
//   forward   S_ij = s <q_i, k_j> + h_ij,   P_ij = softmax over j of S_ij,   o_i = sum_j P_ij v_j
//
//   grad      of <g, o>, with D_i = <g_i, o_i> and G_ij = <g_i, v_j>:
//             dS_ij = P_ij (G_ij - D_i),      dh = dS
//             dq_i = s sum_j dS_ij k_j,       dk_j = s sum_i dS_ij q_i,       dv_j = sum_i P_ij g_i
//
//   grad2     for cotangents a, b, c, t of dq, dk, dv, dh. <a, dq> + <b, dk> + <c, dv> + <t, dh> is <g, o'>,
//             where o' is the derivative of o in the direction (a, b, c, t):
//             X_ij = s (<a_i, k_j> + <q_i, b_j>) + t_ij,   r_i = sum_j P_ij X_ij
//             Y_ij = P_ij (X_ij - r_i),   o'_i = sum_j Y_ij v_j + P_ij c_j
//             With C_ij = <g_i, c_j> and w_i = <g_i, o'_i>, the cotangent of S is
//             W_ij = Y_ij (G_ij - D_i) + P_ij (C_ij - w_i)
//             and those of g, q, k, v and h are
//             gg = o',   gq_i = s sum_j dS_ij b_j + W_ij k_j,   gk_j = s sum_i dS_ij a_i + W_ij q_i
//             gv_j = sum_i Y_ij g_i,   gh = W
//
// -inf in the bias masks; a row of S that is all -inf by it has o_i = 0, and P_ij = 0 in the derivatives.
// These compute P again, from each query's highest score and one over its sum of exponentials, the two
// numbers of `softmax` (both 0 for such a row): the logarithm of the sum in their place would round as
// coarsely as it is large. Arithmetic and sums are float32 (float64 for float64), in an order that does not
// depend on the number of threads.
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

struct AttentionArgs {
  int64_t heads, N, M, d, e;
  double scale;
  // Head b has bias b / bias_inner % bias_count, [N or 1, M or 1]: `by_row`, `by_column` say which of the two
  // it is.
  int64_t bias_inner, bias_count;
  bool by_row, by_column;
  DType dtype;
  int threads;
};

// bias and softmax, [heads, N, 2], are in the type of the arithmetic; forward reads the first four, bias may
// be nullptr.
struct AttentionInputs {
  const void *q, *k, *v, *bias, *g, *o, *softmax;
};

// nullptr stands for zero.
struct AttentionCotangents {
  const void *q, *k, *v, *bias;
};

// nullptr where it is not wanted. The bias's, in the type of the arithmetic, is summed over the heads that
// share it and shaped like it where the bias is by row; where it is not, each head has its sums over rows,
// [heads, M]. It is not to be asked for where the bias is not by column: then it is zero. g is grad2's alone.
struct AttentionGradients {
  void *q, *k, *v, *bias, *g;
};

#define FASTGAN_DECLARE(ISA)                                                                                \
  namespace ISA {                                                                                           \
  Error attention(const AttentionInputs& x, void* o, void* softmax, const AttentionArgs& args);             \
  Error attention_grad(const AttentionInputs& x, const AttentionGradients& out, const AttentionArgs& args); \
  Error attention_grad2(const AttentionInputs& x, const AttentionCotangents& y,                             \
                        const AttentionGradients& out, const AttentionArgs& args);                          \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

}  // namespace fastgan
