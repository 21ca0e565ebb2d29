// Minibatch standard deviation (Karras et al. 2018, Progressive Growing of GANs, section 3; grouped as in
// StyleGAN2) and its first two derivatives.
//
// Of N samples, those with i mod n = j form group j, of G members. The channels are cut into F features of P
// positions p (channel, pixel) each. For every group and feature, with sums and means over its members,
//
//   d_ip = x_ip - mean_i x_ip        s_p = sqrt(mean_i d_ip^2 + 1e-8)        u_ip = d_ip / s_p
//
//   forward   o has x and, as F more channels, in every pixel of every member,   y = mean_p s_p
//   grad      for a cotangent g of o, with a = (sum of g over the members' pixels of that channel) / (G P):
//             dx_ip = g_ip + a u_ip
//   grad2     for a cotangent v of dx, with q_p = sum_i v_ip u_ip:
//             gg    has v and, in every pixel of the F channels,   (sum_p q_p) / (G P)     cotangent of g
//             mm_ip = a / s_p (v_ip - mean_i v_ip - u_ip q_p / G)                           cotangent of x
//
// (Through the mean nothing flows in grad, because the d_ip add up to 0, and in grad2 it is the mean of v.)
// Each of the three reads what it is given once; s and u are computed again rather than stored.
//
// Deviations are taken from the first member before they are taken from the mean: where samples nearly agree,
// which is where the statistic matters, x_i - x_0 is exact and x_i - mean x is not. Sums over a group are
// float32 up to 16 members, double beyond that and where a square leaves float32's range; all other sums are
// double, and everything is for float64. No order of summation depends on the number of threads.
#pragma once

#include "common.h"
#include "isa.h"

namespace fastgan {

// x is dense [N, segments, F, length]; o is [N, segments, F length + F pixels]: after each segment of a
// sample come `pixels` copies of each of its F statistics. Contiguous images have one segment of all
// channels, channels_last ones a segment of one pixel.
struct MinibatchStddevArgs {
  int64_t samples, groups, features, segments, length, pixels;
  DType dtype;
  int threads;
};

#define FASTGAN_DECLARE(ISA)                                                                            \
  namespace ISA {                                                                                       \
  Error minibatch_stddev(const void* x, void* o, const MinibatchStddevArgs& args);                      \
  Error minibatch_stddev_grad(const void* g, const void* x, void* dx, const MinibatchStddevArgs& args); \
  Error minibatch_stddev_grad2(const void* v, const void* g, const void* x, void* gg, void* mm,         \
                               const MinibatchStddevArgs& args);                                        \
  }
FASTGAN_EACH_ISA(FASTGAN_DECLARE)
#undef FASTGAN_DECLARE

namespace cuda {
// How many doubles `parts` must have room for: the sums that blocks leave for the last step of a pass.
int64_t minibatch_stddev_parts(const MinibatchStddevArgs& args);
Error minibatch_stddev(const void* x, void* o, void* parts, const MinibatchStddevArgs& args, void* stream);
Error minibatch_stddev_grad(const void* g, const void* x, void* dx, const MinibatchStddevArgs& args,
                            void* stream);
Error minibatch_stddev_grad2(const void* v, const void* g, const void* x, void* gg, void* mm, void* parts,
                             const MinibatchStddevArgs& args, void* stream);
}  // namespace cuda

}  // namespace fastgan
