// fastgan._C's functions of conv_stride2: csrc/conv_stride2.h over addresses.

#include "conv_stride2.h"

#include <pybind11/stl.h>

#include <array>

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

void fastgan::bindings::bind_conv_stride2(py::module_& module) {
  py::class_<ConvStride2Args>(module, "ConvStride2Args")
      .def(py::init([](std::array<int64_t, 4> x, std::array<int64_t, 4> y, int64_t padding, int64_t taps,
                       bool x_channels_last, bool y_channels_last, int dtype) {
        return ConvStride2Args{
            x[0],        x[1], x[2], x[3], y[1], y[2], y[3], padding, taps, x_channels_last, y_channels_last,
            DType(dtype)};
      }));
  module.def(
      "conv_stride2",
      [](Address x, Address w, Address bias, Address y, const ConvStride2Args& args, int threads) {
        check(FASTGAN_CPU(conv_stride2)(at(x), at(w), at(bias), at(y), args, threads));
      },
      release_gil());
  module.def(
      "conv_stride2_transposed",
      [](Address y, Address w, Address bias, Address x, const ConvStride2Args& args, int threads) {
        check(FASTGAN_CPU(conv_stride2_transposed)(at(y), at(w), at(bias), at(x), args, threads));
      },
      release_gil());
  module.def(
      "conv_stride2_weight_grad",
      [](Address x, Address dy, Address dw, const ConvStride2Args& args, int threads) {
        check(FASTGAN_CPU(conv_stride2_weight_grad)(at(x), at(dy), at(dw), args, threads));
      },
      release_gil());
}
