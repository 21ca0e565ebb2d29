// Convolutions of stride 2 and their transposes: 25/4 B OH OW C K multiply-adds with 3x3 taps instead of 9, 9
// instead of 16 with 4x4.
#include "conv_stride2.h"

#include "conv_stride2_transforms.h"
#include "minimal_convolution.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

Image image_x(const ConvStride2Args& a) { return {a.C, a.H, a.W, a.x_channels_last}; }
Image image_y(const ConvStride2Args& a) { return {a.K, a.OH, a.OW, a.y_channels_last}; }

template <int kTaps>
struct Schemes;
template <>
struct Schemes<3> {
  using Down = Stride2Of3;
  using UpEven = TransposedEvenOf3;
  using UpOdd = TransposedOddOf3;
};
template <>
struct Schemes<4> {
  using Down = Stride2Of4;
  using UpEven = TransposedEvenOf4;
  using UpOdd = TransposedOddOf4;
};

Geometry down(const ConvStride2Args& a) { return {a.B, image_x(a), image_y(a), a.padding, a.padding}; }

// Pixel 0 of x is pixel `padding` of the padded image, to which y_i with i = padding / 2 belongs.
template <typename Up>
Geometry up(const ConvStride2Args& a) {
  const int64_t before = Up::kBefore - a.padding / 2;
  return {a.B, image_y(a), image_x(a), before, before};
}

// Calls run(T(), schemes) for the type of the elements and the size of the filters.
template <typename Run>
Error with_schemes(const ConvStride2Args& a, const Run& run) {
  if (a.taps == 3) return with_type(a.dtype, [&](auto type) { run(type, Schemes<3>()); });
  if (a.taps == 4) return with_type(a.dtype, [&](auto type) { run(type, Schemes<4>()); });
  return "conv_stride2: the filters are neither 3x3 nor 4x4";
}

template <typename Up, typename T>
void transposed(const void* y, const void* w, const void* bias, void* x, const ConvStride2Args& args,
                int threads) {
  forward<Up>((const T*)y, (const T*)w, {true, false}, (const T*)bias, (T*)x, up<Up>(args), threads);
}

}  // namespace

Error conv_stride2(const void* x, const void* w, const void* bias, void* y, const ConvStride2Args& args,
                   int threads) {
  return with_schemes(args, [&](auto type, auto schemes) {
    using T = decltype(type);
    forward<typename decltype(schemes)::Down>((const T*)x, (const T*)w, {false, false}, (const T*)bias, (T*)y,
                                              down(args), threads);
  });
}

Error conv_stride2_transposed(const void* y, const void* w, const void* bias, void* x,
                              const ConvStride2Args& args, int threads) {
  return with_schemes(args, [&](auto type, auto schemes) {
    using T = decltype(type);
    using Of = decltype(schemes);
    args.padding % 2 ? transposed<typename Of::UpOdd, T>(y, w, bias, x, args, threads)
                     : transposed<typename Of::UpEven, T>(y, w, bias, x, args, threads);
  });
}

Error conv_stride2_weight_grad(const void* x, const void* dy, void* dw, const ConvStride2Args& args,
                               int threads) {
  return with_schemes(args, [&](auto type, auto schemes) {
    using T = decltype(type);
    weight_grad<typename decltype(schemes)::Down>((const T*)x, (const T*)dy, (T*)dw, down(args), threads);
  });
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
