// fastgan._C's functions of scaled_bias_act: csrc/scaled_bias_act.h over addresses.

#include "scaled_bias_act.h"

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

void fastgan::bindings::bind_scaled_bias_act(py::module_& module) {
  py::class_<ScaledBiasActArgs>(module, "ScaledBiasActArgs")
      .def(py::init([](int64_t B, int64_t C, int64_t N, bool noise_per_sample, int act, double alpha,
                       double gain, double clamp, int dtype, int threads) {
        return ScaledBiasActArgs{B,     C,    N,     noise_per_sample, Act(act),
                                 alpha, gain, clamp, DType(dtype),     threads};
      }));
  module.def(
      "scaled_bias_act",
      [](Address x, Address s, Address n, Address sigma, Address b, Address y,
         const ScaledBiasActArgs& args) {
        check(FASTGAN_CPU(scaled_bias_act)(at(x), at(s), at(n), at(sigma), at(b), at(y), args));
      },
      release_gil());
  module.def(
      "scaled_bias_act_grad",
      [](Address dy, Address x, Address s, Address n, Address sigma, Address b, Address dx, Address sums,
         bool unscaled, const ScaledBiasActArgs& args) {
        check(FASTGAN_CPU(scaled_bias_act_grad)(at(dy), at(x), at(s), at(n), at(sigma), at(b), at(dx),
                                                (double*)at(sums), unscaled, args));
      },
      release_gil());
  module.def(
      "plane_dots",
      [](Address t, Address w, Address dots, int64_t B, int64_t C, int64_t N, int64_t sample_step,
         int64_t channel_step, int dtype, int threads) {
        const PlaneDotsArgs args{B, C, N, sample_step, channel_step, DType(dtype), threads};
        check(FASTGAN_CPU(plane_dots)(at(t), at(w), (double*)at(dots), args));
      },
      release_gil());
}
