// fastgan._C's functions of conv3x3: csrc/conv3x3.h over addresses.

#include "conv3x3.h"

#include <pybind11/stl.h>

#include <array>

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

using Pair = std::array<int64_t, 2>;  // (x, y), but sizes are (height, width)

void fastgan::bindings::bind_conv3x3(py::module_& module) {
  py::class_<Conv3x3Args>(module, "Conv3x3Args")
      .def(py::init([](std::array<int64_t, 4> x, int64_t K, Pair padding, int64_t groups,
                       bool x_channels_last, bool y_channels_last, bool turned, int dtype) {
        return Conv3x3Args{x[0],
                           x[1],
                           x[2],
                           x[3],
                           K,
                           padding[0],
                           padding[1],
                           groups,
                           x_channels_last,
                           y_channels_last,
                           turned,
                           DType(dtype)};
      }));
  module.def(
      "conv3x3",
      [](Address x, Address w, Address bias, Address y, const Conv3x3Args& args, int threads) {
        check(FASTGAN_CPU(conv3x3)(at(x), at(w), at(bias), at(y), args, threads));
      },
      release_gil());
  module.def(
      "conv3x3_weight_grad",
      [](Address x, Address dy, Address dw, const Conv3x3Args& args, int threads) {
        check(FASTGAN_CPU(conv3x3_weight_grad)(at(x), at(dy), at(dw), args, threads));
      },
      release_gil());
}
