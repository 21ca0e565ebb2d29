// Spectral normalisation of all weights of a network in one call (Miyato et al. 2018, arXiv:1802.05957).
//
// A weight is seen as a matrix M of h rows and w = A B columns: element (j, a B + b) is weight[(a h + j) B +
// b], so A = 1 for a weight whose rows are its first dimension, and A > 1 where they are another (a
// transposed convolution's). u [h] and v [w] estimate its first singular vectors; norm(x) = x / max(|x|,
// eps).
//   iteration, u first (torch.nn.utils.parametrizations):  u = norm(M v),  v = norm(M' u)
//   iteration, v first (torch.nn.utils.spectral_norm):     v = norm(M' u), u = norm(M v)
//   sigma = u' M v,  out = M / sigma
// After an iteration sigma costs nothing: it is <M' u, v>, or <u, M v>, of the last product. Without one
// (iterations = 0) the products of v are taken and u and v stay.
//
// With u and v constant, the gradient for a cotangent G of out and gs of sigma, and the cotangents of G, M
// and gs for a cotangent D of that gradient:
//   grad    dM = G / sigma + (gs - <G, M> / sigma^2) u v'
//   grad2   a = u' D v;  dG = D / sigma - (a / sigma^2) M,  dgs = a,
//           dM = -(a / sigma^2) G + (2 a <G, M> / sigma^3 - <D, G> / sigma^2) u v'
//
// Floor, in passes over the weights: u first and A = 1 both products of an iteration are made from one read,
// row by row: y_j = <M_j, v> and then t += y_j M_j while the row is in cache. With the scaling that is two
// reads and one write; three reads where the order of the products does not follow the rows. grad reads G
// and M, and G again, and writes dM.
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

// One weight of a call. What a function does not use may be nullptr; a cotangent that is nullptr is zero.
struct SpectralMatrix {
  const void* weight;  // [A, h, B]
  const void* u;       // [h]
  const void* v;       // [A B]
  void* u_out;         // forward: after the iterations
  void* v_out;
  void* out;      // forward: weight / sigma (nullptr: not wanted); grad and grad2: dM
  const void* g;  // grad, grad2: G, like the weight
  const void* d;  // grad2: D, like the weight
  void* g_out;    // grad2: dG
  int64_t A, h, B;
};

struct SpectralNormArgs {
  int iterations;
  double eps;
  bool v_first;
  DType dtype;  // of every tensor; sigma, gs and dgs are float32, or float64 for float64
};

// sigma, gs and dgs hold one number for each of the `count` matrices.
#define FASTGAN_DECLARE(ISA)                                                                                \
  namespace ISA {                                                                                           \
  Error spectral_norm(const SpectralMatrix* matrices, int count, void* sigma, const SpectralNormArgs& args, \
                      int threads);                                                                         \
  Error spectral_norm_grad(const SpectralMatrix* matrices, int count, const void* sigma, const void* gs,    \
                           const SpectralNormArgs& args, int threads);                                      \
  Error spectral_norm_grad2(const SpectralMatrix* matrices, int count, const void* sigma, void* dgs,        \
                            const SpectralNormArgs& args, int threads);                                     \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

// The same on the GPU, on addresses of its memory (the table of matrices is in the host's). `scratch` is
// device memory of spectral_norm_scratch(...) bytes, which need not be initialised.
namespace cuda {
int64_t spectral_norm_scratch(const SpectralMatrix* matrices, int count, const SpectralNormArgs& args);
Error spectral_norm(const SpectralMatrix* matrices, int count, void* sigma, const SpectralNormArgs& args,
                    void* scratch, void* stream);
Error spectral_norm_grad(const SpectralMatrix* matrices, int count, const void* sigma, const void* gs,
                         const SpectralNormArgs& args, void* scratch, void* stream);
Error spectral_norm_grad2(const SpectralMatrix* matrices, int count, const void* sigma, void* dgs,
                          const SpectralNormArgs& args, void* scratch, void* stream);
}  // namespace cuda

}  // namespace fastgan
