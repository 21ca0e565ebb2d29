// 3x3 convolutions of stride 1: 4 B OH OW C K multiply-adds, where a direct convolution has 9.
#include "conv3x3.h"

#include "conv3x3_transforms.h"
#include "minimal_convolution.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

Geometry geometry(const Conv3x3Args& a) {
  const Image x{a.C / a.groups, a.H, a.W, a.x_channels_last, a.groups};
  const Image y{a.K / a.groups, a.H + 2 * a.pad_y - 2, a.W + 2 * a.pad_x - 2, a.y_channels_last, a.groups};
  return {a.B, x, y, a.pad_y, a.pad_x};
}

}  // namespace

Error conv3x3(const void* x, const void* w, const void* bias, void* y, const Conv3x3Args& args, int threads) {
  return with_type(args.dtype, [&](auto type) {
    using T = decltype(type);
    forward<Stride1>((const T*)x, (const T*)w, {args.turned, args.turned}, (const T*)bias, (T*)y,
                     geometry(args), threads);
  });
}

Error conv3x3_weight_grad(const void* x, const void* dy, void* dw, const Conv3x3Args& args, int threads) {
  return with_type(args.dtype, [&](auto type) {
    using T = decltype(type);
    weight_grad<Stride1>((const T*)x, (const T*)dy, (T*)dw, geometry(args), threads);
  });
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
