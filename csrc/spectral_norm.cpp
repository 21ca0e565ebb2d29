// Spectral normalisation on the CPU (spectral_norm.h has the formulas and the floor).
//
// torch makes about 17 small operations for each layer; here all layers share three loops over tasks: slabs
// of rows for the products, one task a matrix for the vectors, pieces of the weights for the scaling. Rows
// are taken four at a time: their products with v share its loads, and while the rows are in cache they are
// added to t with those products as factors, so that u first needs one read of the weight. A transposed
// convolution's rows lie in pieces; they are gathered into scratch first, where they stay in cache.
//
// t = M'(M v) is made from the product that is not normalised yet, whose square may leave the range of
// float32 for weights of absurd size: such a matrix is done again in two passes. Every cut depends on the
// shapes alone, so that results do not depend on the number of threads.

#include "spectral_norm.h"

#include <cmath>

#include "dtype_switch.h"
#include "element.h"
#include "scratch.h"
#include "spectral_norm_derivatives.h"
#include "spectral_norm_view.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

constexpr int kRows = 4;            // rows that share the loads of a vector
constexpr int64_t kGathered = 16;   // rows that are gathered at once: a cache line of a matrix of columns
constexpr double kSafeNorm = 1e15;  // between its inverse and this a product may be multiplied once more

// Sums of products are taken in the type of the arithmetic for this many elements, then in double.
constexpr int64_t kBlock = 256;

template <typename E, typename T>
T dot(const E* x, const T* y, int64_t n) {
  double total = 0;
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t last = smaller(n, first + kBlock);
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = first; i < last; ++i) sum += load(x + i) * y[i];
    total += double(sum);
  }
  return T(total);
}

template <typename E, typename T>
void dot_rows(const E* x, int64_t stride, const T* y, int64_t n, T* sums) {
  double totals[kRows] = {};
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t last = smaller(n, first + kBlock);
    T s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t i = first; i < last; ++i) {
      s0 += load(x + i) * y[i];
      s1 += load(x + stride + i) * y[i];
      s2 += load(x + 2 * stride + i) * y[i];
      s3 += load(x + 3 * stride + i) * y[i];
    }
    totals[0] += double(s0), totals[1] += double(s1), totals[2] += double(s2), totals[3] += double(s3);
  }
  for (int r = 0; r < kRows; ++r) sums[r] = T(totals[r]);
}

template <typename E, typename T>
void add_rows(const E* x, int64_t stride, const T* factors, T* t, int64_t n) {
  const T f0 = factors[0], f1 = factors[1], f2 = factors[2], f3 = factors[3];
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    t[i] += (f0 * load(x + i) + f1 * load(x + stride + i)) +
            (f2 * load(x + 2 * stride + i) + f3 * load(x + 3 * stride + i));
  }
}

template <typename E, typename T>
void add_row(const E* x, T factor, T* t, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) t[i] += factor * load(x + i);
}

template <typename T>
double norm(const T* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += double(x[i]) * double(x[i]);
  return std::sqrt(sum);
}

template <typename T>
double inner(const T* x, const T* y, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += double(x[i]) * double(y[i]);
  return sum;
}

// What a matrix needs while it is worked on.
template <typename T>
struct Work {
  T *u, *v;  // the current vectors
  T *y, *t;  // M v, and M' y or M' u by slabs: [slabs, cols]
  double sigma;
};

// Calls rows(x, stride, first, n) for groups of a slab's rows that lie one after the other in memory.
template <typename E, typename Rows>
void for_each_group(const View<E>& m, int64_t slab, const Rows& rows) {
  const int64_t first = slab * m.rows_per_slab, last = smaller(m.rows, first + m.rows_per_slab);
  if (m.A == 1) {
    for (int64_t j = first; j < last; j += kRows)
      rows(m.weight + j * m.cols, m.cols, j, smaller(kRows, last - j));
    return;
  }
  const Scratch<E> gathered(kGathered * m.cols);
  for (int64_t j = first; j < last; j += kGathered) {
    const int64_t n = smaller(kGathered, last - j);
    for (int64_t a = 0; a < m.A; ++a) {
      const E* from = m.weight + (a * m.rows + j) * m.B;
      for (int64_t r = 0; r < n; ++r)
        std::memcpy(gathered.data() + r * m.cols + a * m.B, from + r * m.B, m.B * sizeof(E));
    }
    for (int64_t r = 0; r < n; r += kRows)
      rows(gathered.data() + r * m.cols, m.cols, j + r, smaller(kRows, n - r));
  }
}

// y = M v for a slab; with `and_t` also its part of t = M' y, or (`from_u`) only that of t = M' u.
template <typename E, typename T>
void multiply_slab(const View<E>& m, Work<T>& w, int64_t slab, bool and_t, bool from_u) {
  T* t = w.t + slab * m.cols;
  if (and_t || from_u) {
    for (int64_t i = 0; i < m.cols; ++i) t[i] = 0;
  }
  for_each_group(m, slab, [&](const E* x, int64_t stride, int64_t j, int64_t n) {
    const T* factors = from_u ? w.u + j : w.y + j;
    if (n == kRows) {
      if (!from_u) dot_rows(x, stride, w.v, m.cols, w.y + j);
      if (and_t || from_u) add_rows(x, stride, factors, t, m.cols);
      return;
    }
    for (int64_t r = 0; r < n; ++r) {
      if (!from_u) w.y[j + r] = dot(x + r * stride, w.v, m.cols);
      if (and_t || from_u) add_row(x + r * stride, factors[r], t, m.cols);
    }
  });
}

// The sum of the slabs' parts, in the place of the first.
template <typename E, typename T>
void sum_slabs(const View<E>& m, Work<T>& w) {
  for (int64_t slab = 1; slab < m.slabs; ++slab) {
    const T* part = w.t + slab * m.cols;
#pragma omp simd
    for (int64_t i = 0; i < m.cols; ++i) w.t[i] += part[i];
  }
}

// to = x / max(|x|, eps), and what x was divided by.
template <typename T>
double normalise(const T* x, T* to, int64_t n, double eps) {
  const double length = norm(x, n), by = length > eps || std::isnan(length) ? length : eps;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = T(double(x[i]) / by);
  return by;
}

// After the products of u first: u, v and sigma.
template <typename E, typename T>
void finish_u_first(const View<E>& m, Work<T>& w, double eps) {
  const double length = normalise(w.y, w.u, m.rows, eps);
  if (length > 1 / kSafeNorm && length < kSafeNorm) {
    sum_slabs(m, w);
#pragma omp simd
    for (int64_t i = 0; i < m.cols; ++i) w.t[i] = T(double(w.t[i]) / length);
  } else {
    for (int64_t slab = 0; slab < m.slabs; ++slab) multiply_slab(m, w, slab, false, true);
    sum_slabs(m, w);
  }
  normalise(w.t, w.v, m.cols, eps);
  w.sigma = inner(w.t, w.v, m.cols);
}

template <typename E, typename T>
void finish_products(const View<E>& m, Work<T>& w, bool iterate, double eps) {
  if (iterate) normalise(w.y, w.u, m.rows, eps);
  w.sigma = inner(w.u, w.y, m.rows);
}

template <typename E, typename T>
void iterate(const View<E>* views, Work<T>* work, int count, const SpectralNormArgs& args, int threads) {
  const auto slabs_of = [&](int i) { return views[i].slabs; };
  const auto one_of = [&](int i) { return int64_t(!views[i].empty()); };
  const bool still = args.iterations == 0;
  bool any_v_first = still;
  for (int i = 0; i < count; ++i) any_v_first |= views[i].v_first;
  for (int n = 0; n < args.iterations; ++n) {
    for_each_task(count, slabs_of, threads, [&](int i, int64_t slab) {
      multiply_slab(views[i], work[i], slab, !views[i].v_first, views[i].v_first);
    });
    for_each_task(count, one_of, threads, [&](int i, int64_t) {
      if (!views[i].v_first) return finish_u_first(views[i], work[i], args.eps);
      sum_slabs(views[i], work[i]);
      normalise(work[i].t, work[i].v, views[i].cols, args.eps);
    });
    if (any_v_first) {
      for_each_task(count, slabs_of, threads, [&](int i, int64_t slab) {
        if (views[i].v_first) multiply_slab(views[i], work[i], slab, false, false);
      });
      for_each_task(count, one_of, threads, [&](int i, int64_t) {
        if (views[i].v_first) finish_products(views[i], work[i], true, args.eps);
      });
    }
  }
  if (!still) return;
  for_each_task(count, slabs_of, threads,
                [&](int i, int64_t slab) { multiply_slab(views[i], work[i], slab, false, false); });
  for_each_task(count, one_of, threads,
                [&](int i, int64_t) { finish_products(views[i], work[i], false, args.eps); });
}

template <typename E, typename T>
void widen(const E* from, T* to, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = load(from + i);
}

template <typename E, typename T>
void narrow(const T* from, E* to, int64_t n) {
  if (!to) return;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) store(to + i, from[i]);
}

template <typename E, typename T>
void divide(const E* x, double sigma, E* y, int64_t n) {
  const T inverse = T(1 / sigma);
  if (std::isfinite(inverse) && inverse != 0) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y + i, load(x + i) * inverse);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y + i, T(load(x + i) / sigma));
  }
}

template <typename E, typename T>
void run_forward(const SpectralMatrix* matrices, int count, T* sigma, const SpectralNormArgs& args,
                 int threads) {
  const Scratch<View<E>> views(count);
  const Scratch<Work<T>> work(count);
  int64_t needed = 0;
  for (int i = 0; i < count; ++i) {
    const View<E> view(matrices[i], args.v_first);
    views.data()[i] = view;
    needed += 2 * view.rows + (1 + view.slabs) * view.cols + 4 * 16;
  }
  const Scratch<T> memory(needed);
  T* next = memory.data();
  const auto take = [&](int64_t n) {
    T* taken = next;
    next += (n + 15) / 16 * 16;  // whole cache lines
    return taken;
  };
  for (int i = 0; i < count; ++i) {
    const View<E>& m = views.data()[i];
    work.data()[i] = {take(m.rows), take(m.cols), take(m.rows), take(m.slabs * m.cols), 0};
    widen(m.u, work.data()[i].u, m.rows);
    widen(m.v, work.data()[i].v, m.cols);
  }
  iterate(views.data(), work.data(), count, args, threads);
  const auto pieces_of = [&](int i) {
    const int64_t size = views.data()[i].size();
    return matrices[i].out && size ? 1 + size / kTaskElements : 0;
  };
  for (int i = 0; i < count; ++i) {
    const View<E>& m = views.data()[i];
    sigma[i] = T(work.data()[i].sigma);
    narrow(work.data()[i].u, m.u_out, m.rows);
    narrow(work.data()[i].v, m.v_out, m.cols);
  }
  for_each_task(count, pieces_of, threads, [&](int i, int64_t piece) {
    const int64_t size = views.data()[i].size(), first = piece * kTaskElements;
    divide<E, T>((const E*)matrices[i].weight + first, double(sigma[i]), (E*)matrices[i].out + first,
                 smaller(kTaskElements, size - first));
  });
}

}  // namespace

Error spectral_norm(const SpectralMatrix* matrices, int count, void* sigma, const SpectralNormArgs& args,
                    int threads){
#define RUN(E, T) run_forward<E, T>(matrices, count, (T*)sigma, args, threads)
    FASTGAN_DTYPE_SWITCH(args.dtype, "spectral_norm", RUN)
#undef RUN
}

Error spectral_norm_grad(const SpectralMatrix* matrices, int count, const void*, const void* gs,
                         const SpectralNormArgs& args, int threads){
#define RUN(E, T) run_grad<E, T>(matrices, count, (const T*)gs, threads)
    FASTGAN_DTYPE_SWITCH(args.dtype, "spectral_norm", RUN)
#undef RUN
}

Error spectral_norm_grad2(const SpectralMatrix* matrices, int count, const void*, void* dgs,
                          const SpectralNormArgs& args, int threads) {
#define RUN(E, T) run_grad2<E, T>(matrices, count, (T*)dgs, threads)
  FASTGAN_DTYPE_SWITCH(args.dtype, "spectral_norm", RUN)
#undef RUN
}

}  // namespace FASTGAN_ISA
}  // namespace fastgan
