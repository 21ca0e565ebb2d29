// y = clamp(gain * f(x s + sigma n + b)): what surrounds a convolution whose weights are modulated per
// sample.
//
// x is seen as [B, C, N], N the pixels of an image: s has a value for each sample and channel, the noise n
// one for each pixel (and sample, unless all samples share it), b one for each channel, sigma is a single
// number. s, n, sigma and b are in the type of the arithmetic; n, sigma and b may be nullptr. clamp = NaN
// means none.
//
//   scaled_bias_act        y  = clamp(gain f(v), -clamp, clamp),  v = x s + sigma n + b
//   scaled_bias_act_grad   dx = s t,  t = dy gain f'(v) (zero where the clamp is active), and for every
//   sample and
//                          channel three sums over its pixels, in double: t x (the gradient of s), t n
//                          (summed over all, that of sigma) and t (summed over samples, that of b)
// v is computed again from x: nothing but x itself is saved between the two.
//
//   plane_dots             d = sum over the pixels of t w, for every sample and channel, in double: what is
//                          summed for s (w = x) and sigma (w = n) where the derivative is composed, in order
//                          to be differentiated again. t and w are in the type of x.
#pragma once

#include "bias_act.h"
#include "common.h"
#include "isa.h"

namespace fastgan {

struct ScaledBiasActArgs {
  int64_t B, C, N;
  bool noise_per_sample;
  Act act;
  double alpha, gain, clamp;
  DType dtype;
  int threads;
};

struct PlaneDotsArgs {
  int64_t B, C, N;
  int64_t sample_step, channel_step;  // of w, in elements; t is contiguous
  DType dtype;
  int threads;
};

#define FASTGAN_DECLARE(ISA)                                                                                 \
  namespace ISA {                                                                                            \
  Error scaled_bias_act(const void* x, const void* s, const void* n, const void* sigma, const void* b,       \
                        void* y, const ScaledBiasActArgs& args);                                             \
  Error scaled_bias_act_grad(const void* dy, const void* x, const void* s, const void* n, const void* sigma, \
                             const void* b, void* dx, double* sums, bool unscaled,                           \
                             const ScaledBiasActArgs& args);                                                 \
  Error plane_dots(const void* t, const void* w, double* dots, const PlaneDotsArgs& args);                   \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

}  // namespace fastgan
