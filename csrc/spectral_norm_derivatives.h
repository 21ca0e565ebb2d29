// The derivatives of spectral normalisation on the CPU (spectral_norm.h has the formulas).
//
// Two loops over all weights: the sums that belong to a whole matrix, then what is made of them. Both go by
// runs of neighbours along which u v' is a number times a vector. sigma = u' M v is summed again while M is
// at hand: the second derivative has its third power, and would feel the rounding of the one that forward
// returned.
#pragma once

#include "element.h"
#include "scratch.h"
#include "spectral_norm.h"
#include "spectral_norm_view.h"

namespace fastgan {
namespace FASTGAN_ISA {
namespace {

// The sums over a matrix that its derivatives need.
struct Sums {
  double gm, dg, udv, sigma;  // <G, M>, <D, G>, u' D v, u' M v
};

// In double, products and all: terms of both signs leave little of their sum.
template <typename E>
double inner_of_runs(const E* x, const E* y, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += double(load(x + i)) * double(load(y + i));
  return sum;
}

// The sums of all matrices, by tasks whose parts are added in their order.
template <typename E>
void sum_up(const SpectralMatrix* matrices, int count, Sums* sums, int threads) {
  const auto tasks_of = [&](int i) { return Runs<E>(matrices[i]).tasks(); };
  int64_t most = 0;
  for (int i = 0; i < count; ++i) most = most < tasks_of(i) ? tasks_of(i) : most;
  const Scratch<Sums> parts(count * most);
  for_each_task(count, tasks_of, threads, [&](int i, int64_t task) {
    const SpectralMatrix& m = matrices[i];
    const Runs<E> runs(m);
    const int64_t first = runs.start(task), last = runs.start(task + 1);
    const int64_t start = first * runs.length(), n = (last - first) * runs.length();
    const E *g = (const E*)m.g, *d = (const E*)m.d, *w = (const E*)m.weight;
    Sums& part = parts.data()[i * most + task];
    part.gm = g ? inner_of_runs(g + start, w + start, n) : 0;
    part.dg = g && d ? inner_of_runs(d + start, g + start, n) : 0;
    part.udv = part.sigma = 0;
    for (int64_t r = first; r < last; ++r) {
      const int64_t at = r * runs.length();
      const double factor = double(runs.factor(r));
      part.sigma += factor * inner_of_runs(w + at, runs.along(r), runs.length());
      if (d) part.udv += factor * inner_of_runs(d + at, runs.along(r), runs.length());
    }
  });
  for (int i = 0; i < count; ++i) {
    sums[i] = {0, 0, 0, 0};
    for (int64_t task = 0; task < tasks_of(i); ++task) {
      const Sums& part = parts.data()[i * most + task];
      sums[i].gm += part.gm, sums[i].dg += part.dg, sums[i].udv += part.udv, sums[i].sigma += part.sigma;
    }
  }
}

// to = f x + k u v' for the runs of one task; x = nullptr stands for zeros.
template <typename E, typename T>
void scale_and_add(const Runs<E>& runs, int64_t task, const E* x, double f, double k, E* to) {
  const int64_t n = runs.length(), last = runs.start(task + 1);
  for (int64_t r = runs.start(task); r < last; ++r) {
    const T factor = T(f), c = T(k * double(runs.factor(r)));
    const E *along = runs.along(r), *from = x + (x ? r * n : 0);
    E* out = to + r * n;
    if (x) {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) store(out + i, factor * load(from + i) + c * load(along + i));
    } else {
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) store(out + i, c * load(along + i));
    }
  }
}

template <typename E, typename T>
void run_grad(const SpectralMatrix* matrices, int count, const T* gs, int threads) {
  const Scratch<Sums> sums(count);
  sum_up<E>(matrices, count, sums.data(), threads);
  const auto tasks_of = [&](int i) { return matrices[i].out ? Runs<E>(matrices[i]).tasks() : 0; };
  for_each_task(count, tasks_of, threads, [&](int i, int64_t task) {
    const double s = sums.data()[i].sigma, k = (gs ? double(gs[i]) : 0) - sums.data()[i].gm / s / s;
    scale_and_add<E, T>(Runs<E>(matrices[i]), task, (const E*)matrices[i].g, 1 / s, k, (E*)matrices[i].out);
  });
}

template <typename E, typename T>
void run_grad2(const SpectralMatrix* matrices, int count, T* dgs, int threads) {
  const Scratch<Sums> sums(count);
  sum_up<E>(matrices, count, sums.data(), threads);
  const auto tasks_of = [&](int i) { return Runs<E>(matrices[i]).tasks(); };
  for_each_task(count, tasks_of, threads, [&](int i, int64_t task) {
    const SpectralMatrix& m = matrices[i];
    const Runs<E> runs(m);
    const double s = sums.data()[i].sigma, a = sums.data()[i].udv;
    if (m.g_out) {
      const int64_t first = runs.start(task) * runs.length(), last = runs.start(task + 1) * runs.length();
      const E *d = (const E*)m.d, *w = (const E*)m.weight;
      const double by = 1 / s, minus = -a / s / s;
      E* to = (E*)m.g_out;
#pragma omp simd
      for (int64_t e = first; e < last; ++e) {
        store(to + e, (d ? by * load(d + e) : 0) + minus * load(w + e));
      }
    }
    if (m.out) {
      const double k = 2 * a * sums.data()[i].gm / s / s / s - sums.data()[i].dg / s / s;
      scale_and_add<E, double>(runs, task, (const E*)m.g, -a / s / s, k, (E*)m.out);
    }
  });
  for (int i = 0; dgs && i < count; ++i) dgs[i] = T(sums.data()[i].udv);
}

}  // namespace
}  // namespace FASTGAN_ISA
}  // namespace fastgan
