// y = clamp(gain * f(x + b)) for the activations of fastgan/ops/_common/activations.py, and its first two
// derivatives.
//
// A dense tensor is seen as [outer, channels, inner]: channels_last has inner = 1. b holds `channels` values
// in the type of the arithmetic (float; double for float64) or is nullptr. clamp = NaN means none.
//
// The derivatives are written in one saved tensor s: the input x (then z = s + b) for elu, selu, softplus and
// swish, else the result y (which needs alpha >= 0); linear without clamp reads none.
//   bias_act         y  = clamp(gain f(x + b), -clamp, clamp)
//   bias_act_grad    dx = dy p(s), and, unless db is nullptr, db_c = sum over channel c of dx
//   bias_act_grad2   t  = u dy p'(s)                     u: cotangent of dx; t: its part for s
// with the slope p(s) = gain f'(z), zero where the clamp is active.
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

enum class Act : int { linear, relu, lrelu, tanh, sigmoid, elu, selu, softplus, swish };

struct BiasActArgs {
  int64_t outer, channels, inner;
  Act act;
  double alpha, gain, clamp;
  DType dtype;
  int threads;
};

#define FASTGAN_DECLARE(ISA)                                                                 \
  namespace ISA {                                                                            \
  Error bias_act(const void* x, const void* b, void* y, const BiasActArgs& args);            \
  Error bias_act_grad(const void* dy, const void* s, const void* b, void* dx, void* db,      \
                      const BiasActArgs& args);                                              \
  Error bias_act_grad2(const void* u, const void* dy, const void* s, const void* b, void* t, \
                       const BiasActArgs& args);                                             \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

}  // namespace fastgan
