// fastgan._C's functions of spectral_norm: csrc/spectral_norm.h over addresses.

#include "spectral_norm.h"

#include <pybind11/stl.h>

#include <vector>

#include "bindings.h"

using namespace fastgan;
using namespace fastgan::bindings;

// A row of the table is the nine addresses of a SpectralMatrix, then A, h and B.
using Table = std::vector<int64_t>;

static std::vector<SpectralMatrix> matrices_of(const Table& table) {
  std::vector<SpectralMatrix> matrices;
  for (const int64_t* row = table.data(); row + 12 <= table.data() + table.size(); row += 12) {
    const auto in = [&](int i) { return at(Address(row[i])); };
    matrices.push_back(
        {in(0), in(1), in(2), in(3), in(4), in(5), in(6), in(7), in(8), row[9], row[10], row[11]});
  }
  return matrices;
}

void fastgan::bindings::bind_spectral_norm(py::module_& module) {
  py::class_<SpectralNormArgs>(module, "SpectralNormArgs")
      .def(py::init([](int iterations, double eps, bool v_first, int dtype) {
        return SpectralNormArgs{iterations, eps, v_first, DType(dtype)};
      }));
  module.def(
      "spectral_norm",
      [](const Table& table, Address sigma, const SpectralNormArgs& args, int threads) {
        const auto m = matrices_of(table);
        check(FASTGAN_CPU(spectral_norm)(m.data(), int(m.size()), at(sigma), args, threads));
      },
      release_gil());
  module.def(
      "spectral_norm_grad",
      [](const Table& table, Address sigma, Address gs, const SpectralNormArgs& args, int threads) {
        const auto m = matrices_of(table);
        check(FASTGAN_CPU(spectral_norm_grad)(m.data(), int(m.size()), at(sigma), at(gs), args, threads));
      },
      release_gil());
  module.def(
      "spectral_norm_grad2",
      [](const Table& table, Address sigma, Address dgs, const SpectralNormArgs& args, int threads) {
        const auto m = matrices_of(table);
        check(FASTGAN_CPU(spectral_norm_grad2)(m.data(), int(m.size()), at(sigma), at(dgs), args, threads));
      },
      release_gil());
#if FASTGAN_WITH_CUDA
  module.def(
      "spectral_norm_scratch",
      [](const Table& table, const SpectralNormArgs& args) {
        const auto m = matrices_of(table);
        return cuda::spectral_norm_scratch(m.data(), int(m.size()), args);
      },
      release_gil());
  module.def(
      "spectral_norm_cuda",
      [](const Table& table, Address sigma, const SpectralNormArgs& args, Address scratch, Address stream) {
        const auto m = matrices_of(table);
        check(cuda::spectral_norm(m.data(), int(m.size()), at(sigma), args, at(scratch), at(stream)));
      },
      release_gil());
  module.def(
      "spectral_norm_grad_cuda",
      [](const Table& table, Address sigma, Address gs, const SpectralNormArgs& args, Address scratch,
         Address stream) {
        const auto m = matrices_of(table);
        check(cuda::spectral_norm_grad(m.data(), int(m.size()), at(sigma), at(gs), args, at(scratch),
                                       at(stream)));
      },
      release_gil());
  module.def(
      "spectral_norm_grad2_cuda",
      [](const Table& table, Address sigma, Address dgs, const SpectralNormArgs& args, Address scratch,
         Address stream) {
        const auto m = matrices_of(table);
        check(cuda::spectral_norm_grad2(m.data(), int(m.size()), at(sigma), at(dgs), args, at(scratch),
                                        at(stream)));
      },
      release_gil());
#endif
}
