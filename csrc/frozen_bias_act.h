// bias_act that keeps one bit per element, and bias_act with the activation frozen at those bits: the linear
// map that a piecewise affine network is near one point, applied to another input u.
//
// Tensors are dense and seen as [outer, channels, inner], as in bias_act.h; element e of memory belongs to
// sample e / (n / samples) and to bit e % 8 of byte e / 8 of a mask. s holds `samples` values, b and db
// `channels`, in the type of the arithmetic; s = nullptr stands for ones (then samples = 1), b = nullptr for
// zeros. clamp = NaN means none, otherwise a second mask follows the first at byte ceil(n / 8).
//   bias_act_with_mask     y = bias_act(x; linear, relu or lrelu);  y may be x
//                          mask 0: x + b > 0;  mask 1: not |y| >= clamp
//   frozen_bias_act        y = gain (mask 0 ? 1 : alpha) (u + s b);  where mask 1 is unset, s clamp with the
//                          sign of the clamped output (`constant`) or 0 (the linear part alone)
//   frozen_bias_act_grad   du = gain (mask 0 ? 1 : alpha) dy, 0 where mask 1 is unset, and, unless db is
//                          nullptr, db_c = sum over channel c of s du
// The frozen kernels do not look at args.act: alpha is 1 for linear and 0 for relu.
#pragma once

#include "bias_act.h"

namespace fastgan {

#define FASTGAN_DECLARE(ISA)                                                                               \
  namespace ISA {                                                                                          \
  Error bias_act_with_mask(const void* x, const void* b, void* y, uint8_t* bits, const BiasActArgs& args); \
  Error frozen_bias_act(const void* u, const void* b, const void* s, const uint8_t* bits, void* y,         \
                        int64_t samples, bool constant, const BiasActArgs& args);                          \
  Error frozen_bias_act_grad(const void* dy, const void* s, const uint8_t* bits, void* du, void* db,       \
                             int64_t samples, const BiasActArgs& args);                                    \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

}  // namespace fastgan
