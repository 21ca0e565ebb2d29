// Upsampling, FIR filtering and downsampling of images.
//
// In one direction, with the filter g of n taps (f in reverse, since this is a convolution; f itself with
// `flip`), p = origin and x zero outside of [0, W):
//
//   y[o] = gain sum_k g[k] u[o down + k - p],   u[i up] = x[i], zero in between,   o = 0 ... OW - 1
//
// x [B, C, H, W] -> y [B, C, OH, OW], both directions at once. The gain counts once. It is linear, and its
// transpose is the same with up and down exchanged, the filter reversed and the origin n - 1 - p: that is
// every derivative.
//
// Zeros between the pixels of u are never multiplied: o down + k - p = i up leaves every up-th tap for an
// output, the same ones for outputs that are up / gcd(up, down) apart (a polyphase filter).
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

struct Upfirdn2dArgs {
  int64_t B, C, H, W, OH, OW;
  int64_t fh, fw;  // f is [fh, fw], or
  bool separable;  // f is [fw], applied in both directions; fh = fw
  int64_t up_x, up_y, down_x, down_y;
  int64_t origin_x, origin_y;  // where the first pixel comes to lie, in pixels of u; negative: cropped
  bool flip;
  double gain;
  bool channels_last;  // both tensors are dense, [B, H, W, C] in memory
  DType dtype;
};

#define FASTGAN_DECLARE(ISA)                                                                       \
  namespace ISA {                                                                                  \
  Error upfirdn2d(const void* x, const float* f, void* y, const Upfirdn2dArgs& args, int threads); \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

namespace cuda {
// Elements of float32 (float64 for float64) that a call needs as `scratch`; mostly none.
int64_t upfirdn2d_scratch(const Upfirdn2dArgs& args);
Error upfirdn2d(const void* x, const float* f, void* y, const Upfirdn2dArgs& args, void* scratch,
                void* stream);
}  // namespace cuda

}  // namespace fastgan
