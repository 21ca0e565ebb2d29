// Gradient norm penalties on the CPU (gradient_norm_penalty.h has the formulas).
//
// A sample's g is read twice for u, but the second time from the cache: the thread that summed its squares
// writes its u. Where that would leave cores idle (few samples), the threads share the blocks of all samples
// instead, once for the squares and once for u. Both add up the same blocks in the same order.

#include "gradient_norm_penalty.h"

#include <cmath>

#include "dtype_switch.h"
#include "element.h"
#include "sample_blocks.h"
#include "scratch.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

// Four chains of additions, because one would wait for each addition to finish.
template <typename E>
double sum_of_squares(const E* g, int64_t n) {
  const int64_t quarter = n / 4;
  const E *g1 = g + quarter, *g2 = g1 + quarter, *g3 = g2 + quarter;
  double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
  for (int64_t i = 0; i < quarter; ++i) {
    const double x0 = load(g + i), x1 = load(g1 + i), x2 = load(g2 + i), x3 = load(g3 + i);
    s0 += x0 * x0;
    s1 += x1 * x1;
    s2 += x2 * x2;
    s3 += x3 * x3;
  }
  for (int64_t i = 4 * quarter; i < n; ++i) {
    const double x = load(g + i);
    s0 += x * x;
  }
  return (s0 + s1) + (s2 + s3);
}

// r(n). Comparisons with NaN are false: a NaN norm stays one.
inline double penalty_of(double norm, const NormPenaltyArgs& a) {
  if (std::isnan(a.target)) return 0.5 * a.weight * norm * norm;
  const double excess = norm - a.target;
  return a.one_sided && excess < 0 ? 0.0 : a.weight * excess * excess;
}

// c(n) = r'(n)/n.
inline double slope_of(double norm, const NormPenaltyArgs& a) {
  if (std::isnan(a.target)) return a.weight;
  if (norm == 0 || (a.one_sided && norm < a.target)) return 0;
  return 2 * a.weight * (1 - a.target / norm);
}

// u = s x + c g, or c g.
template <typename E, typename T>
void combine(const E* x, const T* s, T c, const E* g, E* u, int64_t n) {
  if (s) {
    const T factor = *s;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(u + i, factor * load(x + i) + c * load(g + i));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(u + i, c * load(g + i));
  }
}

template <typename E>
void run_forward(const E* g, const E* x, const void* s, E* u, void* penalty, void* norm,
                 const NormPenaltyArgs& a) {
  using T = typename Compute<E>::type;
  const SampleBlocks blocks(a.B, a.N);
  const Scratch<double> squares(blocks.count());
  const Scratch<T> factor(a.B);  // of g in u

  const auto square = [&](int64_t, int64_t start, int64_t n, int64_t block) {
    squares.data()[block] = sum_of_squares(g + start, n);
  };
  const auto finish = [&](int64_t sample) {
    double sum = 0;
    for (int64_t block = 0; block < blocks.per_sample; ++block) {
      sum += squares.data()[sample * blocks.per_sample + block];
    }
    const double n = std::fabs(a.grad_scale) * std::sqrt(sum);
    ((T*)penalty)[sample] = T(penalty_of(n, a));
    ((T*)norm)[sample] = T(n);
    factor.data()[sample] = T(a.scale * a.grad_scale * slope_of(n, a));
  };
  const auto write = [&](int64_t sample, int64_t start, int64_t n, int64_t) {
    const T* of_x = s ? (const T*)s + sample : nullptr;
    combine(of_x ? x + start : nullptr, of_x, factor.data()[sample], g + start, u + start, n);
  };

  const int threads = blocks.worthwhile(a.threads);
  if (a.B % threads == 0 || a.B >= 8 * threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t sample = 0; sample < a.B; ++sample) {
      const int64_t first = sample * blocks.per_sample, end = first + blocks.per_sample;
      for (int64_t block = first; block < end; ++block) blocks.visit(block, square);
      finish(sample);
      if (!u) continue;
      for (int64_t block = first; block < end; ++block) blocks.visit(block, write);
    }
  } else {
    blocks.for_each(threads, square);
    for (int64_t sample = 0; sample < a.B; ++sample) finish(sample);
    if (u) blocks.for_each(threads, write);
  }
}

template <typename E>
void run_grad(const void* p, const E* g, const void* norm, E* dg, const NormPenaltyArgs& a) {
  using T = typename Compute<E>::type;
  SampleBlocks(a.B, a.N).for_each(a.threads, [&](int64_t sample, int64_t start, int64_t n, int64_t) {
    const T factor = T(((const T*)p)[sample] * slope_of(((const T*)norm)[sample], a));
    combine<E, T>(nullptr, nullptr, factor, g + start, dg + start, n);
  });
}

}  // namespace

Error gradient_norm_penalty(const void* g, const void* x, const void* s, void* u, void* penalty, void* norm,
                            const NormPenaltyArgs& args){
#define RUN(E, T) run_forward((const E*)g, (const E*)x, s, (E*)u, penalty, norm, args)
    FASTGAN_DTYPE_SWITCH(args.dtype, "gradient_norm_penalty", RUN)
#undef RUN
}

Error gradient_norm_penalty_grad(const void* p, const void* g, const void* norm, void* dg,
                                 const NormPenaltyArgs& args) {
#define RUN(E, T) run_grad(p, (const E*)g, norm, (E*)dg, args)
  FASTGAN_DTYPE_SWITCH(args.dtype, "gradient_norm_penalty", RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
