// Minibatch standard deviation on the CPU (minibatch_stddev.h has the formulas).
//
// Eager PyTorch makes a pass over memory for each of mean, difference, square, mean and concatenation, and
// about twice as many for each derivative. Here a tile, kWidth neighbouring positions of all members of a
// group, is read once: its deviations stay in the L1 cache (in L2 for groups of a hundred) until all that
// follows from them has been written. So the floor is the copy from x to o, and for the derivatives the
// tensors that are given and returned.

#include "minibatch_stddev.h"

#include <cmath>
#include <type_traits>

#include "dtype_switch.h"
#include "element.h"
#include "minibatch_stddev_pass.h"
#include "scratch.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

constexpr double kEpsilon = 1e-8;
constexpr int64_t kMostInFloat = 16;  // members whose float32 sums keep float32's accuracy

// Calls body(first of the `pixels` neighbours) wherever a statistic stands in o.
template <typename E, typename Body>
void for_each_place(E* o, const Statistic& of, const Sizes& a, const Body& body) {
  const int64_t row = a.features * (a.length + a.pixels);
  const int64_t start = a.features * a.length + of.feature * a.pixels;
  for (int64_t sample = of.group; sample < a.samples; sample += a.groups)
    for (int64_t segment = 0; segment < a.segments; ++segment)
      body(o + sample * a.o_stride() + segment * row + start);
}

template <typename E>
void write_statistic(double value, E* o, const Statistic& of, const Sizes& a) {
  for_each_place(o, of, a, [&](E* pixels) {
    for (int64_t k = 0; k < a.pixels; ++k) store(pixels + k, typename Compute<E>::type(value));
  });
}

// a = (sum of g wherever the statistic stands) / (G P).
template <typename E>
double weight_of(const E* g, const Statistic& of, const Sizes& a) {
  double sum = 0;
  for_each_place(g, of, a, [&](const E* pixels) {
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < a.pixels; ++k) sum += load(pixels + k);
  });
  return sum / (double(of.G) * double(a.positions()));
}

// --- tiles ----------------------------------------------------------------------------------------------
//
// A is the type of the sums over a group. What is stored for a position, [kWidth], or for an element,
// [G, kWidth], is an array of A. The loops over positions are functions of their own that are not inlined:
// between other loops GCC 12 does not vectorise those that store float16.

template <typename A>
using Positions = A[kWidth];

// d = x - mean and s for kG members, in registers. Here and below the result is false where A is too narrow
// for a square (or something is NaN).
template <int kG, typename A, typename E>
__attribute__((noinline)) bool deviations_of(Rows<const E> x, int64_t width, A* d, A* s) {
  constexpr A kShare = A(1) / A(kG);
  int finite = 1;
#pragma omp simd reduction(& : finite)
  for (int64_t p = 0; p < width; ++p) {
    A t[kG], mean = 0, squares = 0;
    const A first = load(x.first + p);
    for (int i = 0; i < kG; ++i) mean += t[i] = A(load(x.first + i * x.stride + p)) - first;
    mean *= kShare;
    for (int i = 0; i < kG; ++i) {
      d[i * kWidth + p] = t[i] -= mean;
      squares += t[i] * t[i];
    }
    s[p] = std::sqrt(squares * kShare + A(kEpsilon));
    finite &= s[p] < A(HUGE_VAL);
  }
  return finite || sizeof(A) == sizeof(double);
}

// The same for G members, row by row.
template <typename A, typename E>
__attribute__((noinline)) bool deviations_of_many(Rows<const E> x, int64_t G, int64_t width, A* d, A* s) {
  const A share = A(1) / A(G);
  Positions<A> first, mean, squares;
  for (int64_t p = 0; p < width; ++p) {
    first[p] = load(x[0] + p);
    mean[p] = squares[p] = A(0);
  }
  for (int64_t i = 0; i < G; ++i) {
    const E* row = x[i];
    A* t = d + i * kWidth;
#pragma omp simd
    for (int64_t p = 0; p < width; ++p) {
      t[p] = A(load(row + p)) - first[p];
      mean[p] += t[p];
    }
  }
  for (int64_t p = 0; p < width; ++p) mean[p] *= share;
  for (int64_t i = 0; i < G; ++i) {
    A* t = d + i * kWidth;
#pragma omp simd
    for (int64_t p = 0; p < width; ++p) {
      t[p] -= mean[p];
      squares[p] += t[p] * t[p];
    }
  }
  int finite = 1;
#pragma omp simd reduction(& : finite)
  for (int64_t p = 0; p < width; ++p) {
    s[p] = std::sqrt(squares[p] * share + A(kEpsilon));
    finite &= s[p] < A(HUGE_VAL);
  }
  return finite || sizeof(A) == sizeof(double);
}

template <typename A, typename E>
bool deviations(Rows<const E> x, int64_t G, int64_t width, A* d, A* s) {
  switch (G) {
    case 2:
      return deviations_of<2>(x, width, d, s);
    case 3:
      return deviations_of<3>(x, width, d, s);
    case 4:
      return deviations_of<4>(x, width, d, s);
    case 8:
      return deviations_of<8>(x, width, d, s);
  }
  return deviations_of_many(x, G, width, d, s);
}

template <typename A>
double sum_of(const A* x, int64_t width) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t p = 0; p < width; ++p) sum += double(x[p]);
  return sum;
}

// memcpy takes half as long again for rows this short.
template <typename E>
__attribute__((noinline)) void copy_row(const E* from, E* to, int64_t width) {
#pragma omp simd
  for (int64_t p = 0; p < width; ++p) to[p] = from[p];
}

// dx = g + factor d, for one member.
template <typename A, typename E>
__attribute__((noinline)) void grad_row(const E* g, const A* d, const A* factor, E* dx, int64_t width) {
  using T = typename Compute<E>::type;
#pragma omp simd
  for (int64_t p = 0; p < width; ++p) store(dx + p, T(A(load(g + p)) + factor[p] * d[p]));
}

// u = d / s in place of d; adds what a member has in the sums of v and of q.
template <typename A, typename E>
__attribute__((noinline)) void project_row(const E* v, const A* inverse_s, A* u, A* sum, A* q,
                                           int64_t width) {
#pragma omp simd
  for (int64_t p = 0; p < width; ++p) {
    const A value = load(v + p);
    u[p] *= inverse_s[p];
    sum[p] += value;
    q[p] += value * u[p];
  }
}

// mm = factor (v - mean v - u q / G), for one member.
template <typename A, typename E>
__attribute__((noinline)) void grad2_row(const E* v, const A* u, const A* mean, const A* q_share,
                                         const A* factor, E* mm, int64_t width) {
  using T = typename Compute<E>::type;
#pragma omp simd
  for (int64_t p = 0; p < width; ++p) {
    store(mm + p, T(factor[p] * ((A(load(v + p)) - mean[p]) - u[p] * q_share[p])));
  }
}

template <typename A, typename E>
bool grad_tile(Rows<const E> g, Rows<const E> x, Rows<E> dx, double weight, int64_t G, int64_t width, A* d) {
  Positions<A> s;
  if (!deviations(x, G, width, d, s)) return false;
  for (int64_t p = 0; p < width; ++p) s[p] = A(weight) / s[p];
  for (int64_t i = 0; i < G; ++i) grad_row(g[i], d + i * kWidth, s, dx[i], width);
  return true;
}

// Also sum_of_q, over the tile's positions.
template <typename A, typename E>
bool grad2_tile(Rows<const E> v, Rows<const E> x, Rows<E> mm, double weight, int64_t G, int64_t width, A* u,
                double& sum_of_q) {
  Positions<A> s, mean, q;
  if (!deviations(x, G, width, u, s)) return false;
  for (int64_t p = 0; p < width; ++p) {
    s[p] = A(1) / s[p];
    mean[p] = q[p] = A(0);
  }
  for (int64_t i = 0; i < G; ++i) project_row(v[i], s, u + i * kWidth, mean, q, width);
  sum_of_q = sum_of(q, width);
  for (int64_t p = 0; p < width; ++p) {
    mean[p] /= A(G);
    q[p] /= A(G);
    s[p] *= A(weight);
  }
  for (int64_t i = 0; i < G; ++i) grad2_row(v[i], u + i * kWidth, mean, q, s, mm[i], width);
  return true;
}

// Calls compute(A* memory) with the A that a group of elements E needs.
template <typename E, typename Run>
void with_sums(int64_t G, double* memory, const Run& compute) {
  if constexpr (sizeof(E) < sizeof(double)) {
    if (G <= kMostInFloat && compute((float*)memory)) return;
  }
  compute(memory);
}

// --- the three passes -----------------------------------------------------------------------------------

template <typename E>
void run_forward(const E* x, E* o, const Sizes& a) {
  const auto of_tile = [&](const Statistic& of, const Tile& tile, double* memory) {
    const auto from = rows_of_x(x, of, tile, a);
    double sum_of_s;
    with_sums<E>(of.G, memory, [&](auto* d) {
      Positions<std::remove_pointer_t<decltype(d)>> s;
      const bool enough = deviations(from, of.G, tile.width, d, s);
      sum_of_s = sum_of(s, tile.width);
      return enough;
    });
    const auto to = rows_of_o(o, of, tile, a);
    for (int64_t i = 0; i < of.G; ++i) copy_row(from[i], to[i], tile.width);
    return sum_of_s;
  };
  pass(
      a, [](const Statistic&) {}, of_tile,
      [&](const Statistic& of, double sum_of_s) {
        write_statistic(sum_of_s / double(a.positions()), o, of, a);
      });
}

template <typename E>
void run_grad(const E* g, const E* x, E* dx, const Sizes& a) {
  const Scratch<double> weights(a.statistics());
  const auto of_tile = [&](const Statistic& of, const Tile& tile, double* memory) {
    with_sums<E>(of.G, memory, [&](auto* d) {
      return grad_tile(rows_of_o(g, of, tile, a), rows_of_x(x, of, tile, a), rows_of_x(dx, of, tile, a),
                       weights.data()[of.number], of.G, tile.width, d);
    });
    return 0.0;
  };
  pass(
      a, [&](const Statistic& of) { weights.data()[of.number] = weight_of(g, of, a); }, of_tile,
      [](const Statistic&, double) {});
}

template <typename E>
void run_grad2(const E* v, const E* g, const E* x, E* gg, E* mm, const Sizes& a) {
  const Scratch<double> weights(a.statistics());
  const auto of_tile = [&](const Statistic& of, const Tile& tile, double* memory) {
    const auto from = rows_of_x(v, of, tile, a);
    double sum_of_q;
    with_sums<E>(of.G, memory, [&](auto* u) {
      return grad2_tile(from, rows_of_x(x, of, tile, a), rows_of_x(mm, of, tile, a),
                        weights.data()[of.number], of.G, tile.width, u, sum_of_q);
    });
    const auto to = rows_of_o(gg, of, tile, a);
    for (int64_t i = 0; i < of.G; ++i) copy_row(from[i], to[i], tile.width);
    return sum_of_q;
  };
  pass(
      a, [&](const Statistic& of) { weights.data()[of.number] = weight_of(g, of, a); }, of_tile,
      [&](const Statistic& of, double sum_of_q) {
        write_statistic(sum_of_q / (double(of.G) * double(a.positions())), gg, of, a);
      });
}

}  // namespace

Error minibatch_stddev(const void* x, void* o, const MinibatchStddevArgs& args){
#define RUN(E, T) run_forward((const E*)x, (E*)o, Sizes(args))
    FASTGAN_DTYPE_SWITCH(args.dtype, "minibatch_stddev", RUN)
#undef RUN
}

Error minibatch_stddev_grad(const void* g, const void* x, void* dx, const MinibatchStddevArgs& args){
#define RUN(E, T) run_grad((const E*)g, (const E*)x, (E*)dx, Sizes(args))
    FASTGAN_DTYPE_SWITCH(args.dtype, "minibatch_stddev", RUN)
#undef RUN
}

Error minibatch_stddev_grad2(const void* v, const void* g, const void* x, void* gg, void* mm,
                             const MinibatchStddevArgs& args) {
#define RUN(E, T) run_grad2((const E*)v, (const E*)g, (const E*)x, (E*)gg, (E*)mm, Sizes(args))
  FASTGAN_DTYPE_SWITCH(args.dtype, "minibatch_stddev", RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
