// fastgan._C's functions of bias_act: csrc/bias_act.h over addresses.

#include "bias_act.h"

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

void fastgan::bindings::bind_bias_act(py::module_& module) {
  py::class_<BiasActArgs>(module, "BiasActArgs")
      .def(py::init([](int64_t outer, int64_t channels, int64_t inner, int act, double alpha, double gain,
                       double clamp, int dtype, int threads) {
        return BiasActArgs{outer, channels, inner, Act(act), alpha, gain, clamp, DType(dtype), threads};
      }));
  module.def(
      "bias_act",
      [](Address x, Address b, Address y, const BiasActArgs& args) {
        check(FASTGAN_CPU(bias_act)(at(x), at(b), at(y), args));
      },
      release_gil());
  module.def(
      "bias_act_grad",
      [](Address dy, Address s, Address b, Address dx, Address db, const BiasActArgs& args) {
        check(FASTGAN_CPU(bias_act_grad)(at(dy), at(s), at(b), at(dx), at(db), args));
      },
      release_gil());
  module.def(
      "bias_act_grad2",
      [](Address u, Address dy, Address s, Address b, Address t, const BiasActArgs& args) {
        check(FASTGAN_CPU(bias_act_grad2)(at(u), at(dy), at(s), at(b), at(t), args));
      },
      release_gil());
}
