// fastgan._C's functions of minibatch_discrimination: csrc/minibatch_discrimination.h over addresses.

#include "minibatch_discrimination.h"

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

void fastgan::bindings::bind_minibatch_discrimination(py::module_& module) {
  module.def(
      "minibatch_discrimination",
      [](Address m, Address o, int64_t B, int64_t K, int64_t C, int dtype, int threads) {
        check(FASTGAN_CPU(minibatch_discrimination)(at(m), at(o), B, K, C, DType(dtype), threads));
      },
      release_gil());
  module.def(
      "minibatch_discrimination_grad",
      [](Address g, Address m, Address dm, int64_t B, int64_t K, int64_t C, int dtype, int threads) {
        check(
            FASTGAN_CPU(minibatch_discrimination_grad)(at(g), at(m), at(dm), B, K, C, DType(dtype), threads));
      },
      release_gil());
  module.def(
      "minibatch_discrimination_grad2",
      [](Address v, Address g, Address m, Address gg, Address mm, int64_t B, int64_t K, int64_t C, int dtype,
         int threads) {
        check(FASTGAN_CPU(minibatch_discrimination_grad2)(at(v), at(g), at(m), at(gg), at(mm), B, K, C,
                                                          DType(dtype), threads));
      },
      release_gil());
#if FASTGAN_WITH_CUDA
  module.def(
      "minibatch_discrimination_cuda",
      [](Address m, Address o, int64_t B, int64_t K, int64_t C, int dtype, Address stream) {
        check(cuda::minibatch_discrimination(at(m), at(o), B, K, C, DType(dtype), at(stream)));
      },
      release_gil());
  module.def(
      "minibatch_discrimination_grad_cuda",
      [](Address g, Address m, Address dm, int64_t B, int64_t K, int64_t C, int dtype, Address stream) {
        check(cuda::minibatch_discrimination_grad(at(g), at(m), at(dm), B, K, C, DType(dtype), at(stream)));
      },
      release_gil());
  module.def(
      "minibatch_discrimination_grad2_cuda",
      [](Address v, Address g, Address m, Address gg, Address mm, int64_t B, int64_t K, int64_t C, int dtype,
         Address stream) {
        check(cuda::minibatch_discrimination_grad2(at(v), at(g), at(m), at(gg), at(mm), B, K, C, DType(dtype),
                                                   at(stream)));
      },
      release_gil());
#endif
}
