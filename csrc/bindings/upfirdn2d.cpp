// fastgan._C's functions of upfirdn2d: csrc/upfirdn2d.h over addresses.

#include "upfirdn2d.h"

#include <pybind11/stl.h>

#include <array>

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

using Pair = std::array<int64_t, 2>;  // (x, y), but sizes are (height, width)

void fastgan::bindings::bind_upfirdn2d(py::module_& module) {
  py::class_<Upfirdn2dArgs>(module, "Upfirdn2dArgs")
      .def(py::init([](std::array<int64_t, 4> x, Pair y, Pair f, bool separable, Pair up, Pair down,
                       Pair origin, bool flip, double gain, bool channels_last, int dtype) {
        Upfirdn2dArgs args{};
        args.B = x[0], args.C = x[1], args.H = x[2], args.W = x[3];
        args.OH = y[0], args.OW = y[1];
        args.fh = f[0], args.fw = f[1], args.separable = separable;
        args.up_x = up[0], args.up_y = up[1];
        args.down_x = down[0], args.down_y = down[1];
        args.origin_x = origin[0], args.origin_y = origin[1];
        args.flip = flip, args.gain = gain;
        args.channels_last = channels_last, args.dtype = DType(dtype);
        return args;
      }));
  module.def(
      "upfirdn2d",
      [](Address x, Address f, Address y, const Upfirdn2dArgs& args, int threads) {
        check(FASTGAN_CPU(upfirdn2d)(at(x), (const float*)at(f), at(y), args, threads));
      },
      release_gil());
#if FASTGAN_WITH_CUDA
  module.def(
      "upfirdn2d_scratch", [](const Upfirdn2dArgs& args) { return cuda::upfirdn2d_scratch(args); },
      release_gil());
  module.def(
      "upfirdn2d_cuda",
      [](Address x, Address f, Address y, const Upfirdn2dArgs& args, Address scratch, Address stream) {
        check(cuda::upfirdn2d(at(x), (const float*)at(f), at(y), args, at(scratch), at(stream)));
      },
      release_gil());
#endif
}
