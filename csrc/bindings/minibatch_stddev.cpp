// fastgan._C's functions of minibatch_stddev: csrc/minibatch_stddev.h over addresses.

#include "minibatch_stddev.h"

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

void fastgan::bindings::bind_minibatch_stddev(py::module_& module) {
  py::class_<MinibatchStddevArgs>(module, "MinibatchStddevArgs")
      .def(py::init([](int64_t samples, int64_t groups, int64_t features, int64_t segments, int64_t length,
                       int64_t pixels, int dtype, int threads) {
        return MinibatchStddevArgs{samples, groups, features,     segments,
                                   length,  pixels, DType(dtype), threads};
      }));
  module.def(
      "minibatch_stddev",
      [](Address x, Address o, const MinibatchStddevArgs& args) {
        check(FASTGAN_CPU(minibatch_stddev)(at(x), at(o), args));
      },
      release_gil());
  module.def(
      "minibatch_stddev_grad",
      [](Address g, Address x, Address dx, const MinibatchStddevArgs& args) {
        check(FASTGAN_CPU(minibatch_stddev_grad)(at(g), at(x), at(dx), args));
      },
      release_gil());
  module.def(
      "minibatch_stddev_grad2",
      [](Address v, Address g, Address x, Address gg, Address mm, const MinibatchStddevArgs& args) {
        check(FASTGAN_CPU(minibatch_stddev_grad2)(at(v), at(g), at(x), at(gg), at(mm), args));
      },
      release_gil());
#if FASTGAN_WITH_CUDA
  module.def(
      "minibatch_stddev_parts",
      [](const MinibatchStddevArgs& args) { return cuda::minibatch_stddev_parts(args); }, release_gil());
  module.def(
      "minibatch_stddev_cuda",
      [](Address x, Address o, Address parts, const MinibatchStddevArgs& args, Address stream) {
        check(cuda::minibatch_stddev(at(x), at(o), at(parts), args, at(stream)));
      },
      release_gil());
  module.def(
      "minibatch_stddev_grad_cuda",
      [](Address g, Address x, Address dx, const MinibatchStddevArgs& args, Address stream) {
        check(cuda::minibatch_stddev_grad(at(g), at(x), at(dx), args, at(stream)));
      },
      release_gil());
  module.def(
      "minibatch_stddev_grad2_cuda",
      [](Address v, Address g, Address x, Address gg, Address mm, Address parts,
         const MinibatchStddevArgs& args, Address stream) {
        check(cuda::minibatch_stddev_grad2(at(v), at(g), at(x), at(gg), at(mm), at(parts), args, at(stream)));
      },
      release_gil());
#endif
}
