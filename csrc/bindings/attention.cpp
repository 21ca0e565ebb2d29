// fastgan._C's functions of attention: csrc/attention.h over addresses.

#include "attention.h"

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

void fastgan::bindings::bind_attention(py::module_& module) {
  py::class_<AttentionArgs>(module, "AttentionArgs")
      .def(py::init([](int64_t heads, int64_t N, int64_t M, int64_t d, int64_t e, double scale,
                       int64_t bias_inner, int64_t bias_count, bool by_row, bool by_column, int dtype,
                       int threads) {
        return AttentionArgs{heads,        N,      M, d, e, scale, bias_inner, bias_count, by_row, by_column,
                             DType(dtype), threads};
      }));
  py::class_<AttentionInputs>(module, "AttentionInputs")
      .def(py::init([](Address q, Address k, Address v, Address bias, Address g, Address o, Address softmax) {
        return AttentionInputs{at(q), at(k), at(v), at(bias), at(g), at(o), at(softmax)};
      }));
  py::class_<AttentionCotangents>(module, "AttentionCotangents")
      .def(py::init([](Address q, Address k, Address v, Address bias) {
        return AttentionCotangents{at(q), at(k), at(v), at(bias)};
      }));
  py::class_<AttentionGradients>(module, "AttentionGradients")
      .def(py::init([](Address q, Address k, Address v, Address bias, Address g) {
        return AttentionGradients{at(q), at(k), at(v), at(bias), at(g)};
      }));
  module.def(
      "attention",
      [](const AttentionInputs& x, Address o, Address softmax, const AttentionArgs& args) {
        check(FASTGAN_CPU(attention)(x, at(o), at(softmax), args));
      },
      release_gil());
  module.def(
      "attention_grad",
      [](const AttentionInputs& x, const AttentionGradients& out, const AttentionArgs& args) {
        check(FASTGAN_CPU(attention_grad)(x, out, args));
      },
      release_gil());
  module.def(
      "attention_grad2",
      [](const AttentionInputs& x, const AttentionCotangents& y, const AttentionGradients& out,
         const AttentionArgs& args) { check(FASTGAN_CPU(attention_grad2)(x, y, out, args)); },
      release_gil());
}
