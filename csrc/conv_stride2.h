// Convolutions of images with 3x3 or 4x4 filters at stride 2, their transposes (the gradients to the images)
// and their gradients to the filters, by minimal filtering (minimal_convolution.h).
//
//   y[b,k,i,j] = sum over c, s, t of x[b, c, 2i + s - pad, 2j + t - pad] w[k,c,s,t]
//
// Along one axis the even pixels of x meet the even taps alone, the odd ones the odd taps: both are
// convolutions of stride 1 with two taps (with 3 taps, the odd one has one). Of those F(2, 2) computes two
// pixels by three products instead of four,
//
//   y_0 = (x_0 - x_2) w_0 + x_2 (w_0 + w_2),   y_1 = (x_4 - x_2) w_2 + x_2 (w_0 + w_2)
//
// so that 2x2 pixels of y take 25 products instead of 36, or 36 instead of 64 with 4x4 taps. The matrices
// hold 0, 1 and -1 alone.
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

struct ConvStride2Args {
  int64_t B;
  int64_t C, H, W;    // of x
  int64_t K, OH, OW;  // of y
  int64_t padding;    // zeros on all four sides of x
  int64_t taps;       // of a side of the filters: 3 or 4
  bool x_channels_last, y_channels_last;
  DType dtype;  // float32 or float64
};

// w is [K, C, taps, taps] everywhere; bias is nullptr or one number for each channel of the result.
#define FASTGAN_DECLARE(ISA)                                                                               \
  namespace ISA {                                                                                          \
  Error conv_stride2(const void* x, const void* w, const void* bias, void* y, const ConvStride2Args& args, \
                     int threads);                                                                         \
  Error conv_stride2_transposed(const void* y, const void* w, const void* bias, void* x,                   \
                                const ConvStride2Args& args, int threads);                                 \
  Error conv_stride2_weight_grad(const void* x, const void* dy, void* dw, const ConvStride2Args& args,     \
                                 int threads);                                                             \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

}  // namespace fastgan
