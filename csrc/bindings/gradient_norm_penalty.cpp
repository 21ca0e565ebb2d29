// fastgan._C's functions of gradient_norm_penalty: csrc/gradient_norm_penalty.h over addresses.

#include "gradient_norm_penalty.h"

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

void fastgan::bindings::bind_gradient_norm_penalty(py::module_& module) {
  py::class_<NormPenaltyArgs>(module, "NormPenaltyArgs")
      .def(py::init([](int64_t B, int64_t N, double weight, double target, bool one_sided, double scale,
                       double grad_scale, int dtype, int threads) {
        return NormPenaltyArgs{B, N, weight, target, one_sided, scale, grad_scale, DType(dtype), threads};
      }));
  module.def(
      "gradient_norm_penalty",
      [](Address g, Address x, Address s, Address u, Address penalty, Address norm,
         const NormPenaltyArgs& args) {
        check(FASTGAN_CPU(gradient_norm_penalty)(at(g), at(x), at(s), at(u), at(penalty), at(norm), args));
      },
      release_gil());
  module.def(
      "gradient_norm_penalty_grad",
      [](Address p, Address g, Address norm, Address dg, const NormPenaltyArgs& args) {
        check(FASTGAN_CPU(gradient_norm_penalty_grad)(at(p), at(g), at(norm), at(dg), args));
      },
      release_gil());
}
