// fastgan._C's functions of interpolate: csrc/interpolate.h over addresses.

#include "interpolate.h"

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

void fastgan::bindings::bind_interpolate(py::module_& module) {
  module.def(
      "interpolate",
      [](Address x, Address y, Address seed, Address o, int64_t B, int64_t N, int dtype, int threads) {
        check(FASTGAN_CPU(interpolate)(at(x), at(y), at(seed), at(o), B, N, DType(dtype), threads));
      },
      release_gil());
  module.def(
      "interpolate_grad",
      [](Address g, Address seed, Address dx, Address dy, int64_t B, int64_t N, int dtype, int threads) {
        check(FASTGAN_CPU(interpolate_grad)(at(g), at(seed), at(dx), at(dy), B, N, DType(dtype), threads));
      },
      release_gil());
}
