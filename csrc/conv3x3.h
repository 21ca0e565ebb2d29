// The convolution of images with 3x3 filters at stride 1, and its gradient to the filters, by
// Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2015, arXiv:1509.09308).
//
//   y[b,k] = sum_c x[b,c] * w[k,c],   x [B, C, H, W] -> y [B, K, OH, OW],   OH = H + 2 pad_y - 2
//
// A tile of 2x2 pixels of y depends on 4x4 pixels d of x:  y = A' [sum_c (G w G') . (B' d B)] A, 16 products
// for each channel instead of 36. For each of the 16 places of a transformed tile the sum over the channels
// is a product of matrices: that is where the time goes. The matrices hold 0, 1, -1 and 1/2 alone, so that
// results are as accurate as those of a direct convolution.
//
// What is bilinear here has two more readings: the gradient to x is the convolution of dy with the filters
// transposed and turned by 180 degrees, the gradient to w is
//
//   dw[k,c] = G' [sum over tiles of (B' d B) . (A dy A')] G.
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

struct Conv3x3Args {
  int64_t B, C, H, W, K;
  int64_t pad_y, pad_x;  // rows and columns of zeros on either side of x, 0 to 2
  int64_t groups;        // of channels, C / groups of x and K / groups of y in each
  bool x_channels_last, y_channels_last;
  // Whether this one is the gradient to the image of another, whose w it is given: [C, K / groups, 3, 3]
  // instead of [K, C / groups, 3, 3].
  bool turned;
  DType dtype;  // float32 or float64
};

// bias is nullptr or [K].
#define FASTGAN_DECLARE(ISA)                                                                                \
  namespace ISA {                                                                                           \
  Error conv3x3(const void* x, const void* w, const void* bias, void* y, const Conv3x3Args& args,           \
                int threads);                                                                               \
  Error conv3x3_weight_grad(const void* x, const void* dy, void* dw, const Conv3x3Args& args, int threads); \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

}  // namespace fastgan
