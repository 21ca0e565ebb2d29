// The Python module fastgan._C: plain functions over addresses and sizes.
//
// Tensors cross as integers (data_ptr), so this file knows nothing of torch. The GIL is released while a
// kernel runs.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <vector>

#include "bias_act.h"
#include "conv3x3.h"
#include "conv_stride2.h"
#include "frozen_bias_act.h"
#include "gradient_norm_penalty.h"
#include "interpolate.h"
#include "isa.h"
#include "minibatch_discrimination.h"
#include "minibatch_stddev.h"
#include "scaled_bias_act.h"
#include "spectral_norm.h"
#include "upfirdn2d.h"

namespace py = pybind11;
using namespace fastgan;

using Address = uintptr_t;  // of a tensor's first element, or of a CUDA stream; 0 where there is none

static void* at(Address address) { return reinterpret_cast<void*>(address); }

static void check(Error error) {
  if (error) throw std::runtime_error(error);
}

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

PYBIND11_MODULE(_C, module) {
  module.doc() = "fastgan's compiled kernels; call them through fastgan.ops.";
  module.attr("has_cuda") = FASTGAN_WITH_CUDA != 0;
  module.attr("instruction_set") = isa_name();

  using release_gil = py::call_guard<py::gil_scoped_release>;

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

  module.def(
      "bias_act_with_mask",
      [](Address x, Address b, Address y, Address bits, const BiasActArgs& args) {
        check(FASTGAN_CPU(bias_act_with_mask)(at(x), at(b), at(y), (uint8_t*)at(bits), args));
      },
      release_gil());
  module.def(
      "frozen_bias_act",
      [](Address u, Address b, Address s, Address bits, Address y, int64_t samples, bool constant,
         const BiasActArgs& args) {
        check(FASTGAN_CPU(frozen_bias_act)(at(u), at(b), at(s), (const uint8_t*)at(bits), at(y), samples,
                                           constant, args));
      },
      release_gil());
  module.def(
      "frozen_bias_act_grad",
      [](Address dy, Address s, Address bits, Address du, Address db, int64_t samples,
         const BiasActArgs& args) {
        check(FASTGAN_CPU(frozen_bias_act_grad)(at(dy), at(s), (const uint8_t*)at(bits), at(du), at(db),
                                                samples, args));
      },
      release_gil());

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

  using Pair = std::array<int64_t, 2>;  // (x, y), but sizes are (height, width)
  py::class_<Conv3x3Args>(module, "Conv3x3Args")
      .def(py::init([](std::array<int64_t, 4> x, int64_t K, Pair padding, bool x_channels_last,
                       bool y_channels_last, bool turned, int dtype) {
        return Conv3x3Args{
            x[0],   x[1],        x[2], x[3], K, padding[0], padding[1], x_channels_last, y_channels_last,
            turned, DType(dtype)};
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

  py::class_<ConvStride2Args>(module, "ConvStride2Args")
      .def(py::init([](std::array<int64_t, 4> x, std::array<int64_t, 4> y, int64_t padding, int64_t taps,
                       bool x_channels_last, bool y_channels_last, int dtype) {
        return ConvStride2Args{
            x[0],        x[1], x[2], x[3], y[1], y[2], y[3], padding, taps, x_channels_last, y_channels_last,
            DType(dtype)};
      }));
  module.def(
      "conv_stride2",
      [](Address x, Address w, Address bias, Address y, const ConvStride2Args& args, int threads) {
        check(FASTGAN_CPU(conv_stride2)(at(x), at(w), at(bias), at(y), args, threads));
      },
      release_gil());
  module.def(
      "conv_stride2_transposed",
      [](Address y, Address w, Address bias, Address x, const ConvStride2Args& args, int threads) {
        check(FASTGAN_CPU(conv_stride2_transposed)(at(y), at(w), at(bias), at(x), args, threads));
      },
      release_gil());
  module.def(
      "conv_stride2_weight_grad",
      [](Address x, Address dy, Address dw, const ConvStride2Args& args, int threads) {
        check(FASTGAN_CPU(conv_stride2_weight_grad)(at(x), at(dy), at(dw), args, threads));
      },
      release_gil());

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
