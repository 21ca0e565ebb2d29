// grad and grad2 of spectral_norm.cu: sums in double, in one part for each block, then the elements.
#pragma once

#include "spectral_norm_table.cuh"

namespace fastgan::cuda {
namespace {

// Zeros where there is no tensor.
template <int V, typename T>
__device__ __forceinline__ Pack<T, V> load_or_zero(const void* x, int i) {
  return x == nullptr ? Pack<T, V>{} : load<V>(static_cast<const T*>(x) + i);
}

// For grad <G, M>, for grad2 also <D, G> and a = u' D v.
template <bool kSecond>
struct Sums {
  double gm, dg, a;
};

template <bool kSecond, int V, typename T>
__device__ __forceinline__ Sums<kSecond> add_elements(const Job& job, const Place& place) {
  Sums<kSecond> sums = {0, 0, 0};
  const int64_t step = int64_t{place.blocks} * kThreads * V;
#pragma unroll 2
  for (int64_t i = (int64_t{place.block} * kThreads + threadIdx.x) * V; i < job.elements; i += step) {
    const auto m = load<V>(static_cast<const T*>(job.given.weight) + i);
    const auto g = load_or_zero<V, T>(job.given.g, i);
    const auto d = kSecond ? load_or_zero<V, T>(job.given.d, i) : Pack<T, V>{};
#pragma unroll
    for (int n = 0; n < V; ++n) {
      const double wide_g = widen(g.at[n]);
      sums.gm += wide_g * static_cast<double>(widen(m.at[n]));
      if (kSecond) sums.dg += wide_g * static_cast<double>(widen(d.at[n]));
    }
    if (kSecond && job.given.d != nullptr) {
      const auto at = coordinates_of(job, static_cast<int>(i));
      const double u = widen(static_cast<const T*>(job.given.u)[at.row]);
      const auto v = load<V>(static_cast<const T*>(job.given.v) + at.column);
      double dv = 0;
#pragma unroll
      for (int n = 0; n < V; ++n) {
        dv += static_cast<double>(widen(d.at[n])) * static_cast<double>(widen(v.at[n]));
      }
      sums.a += u * dv;
    }
  }
  return sums;
}

// In parts, one for each block: those of gm, then those of dg, then those of a.
template <bool kSecond, typename T>
__global__ void __launch_bounds__(kThreads) sums_kernel(const __grid_constant__ Table table) {
  const Place place = find_place(table);
  const Job& job = table.jobs[place.job];
  const auto sums =
      job.wide ? add_elements<kSecond, kWide<T>, T>(job, place) : add_elements<kSecond, 1, T>(job, place);
  const double all[] = {sums.gm, sums.dg, sums.a};
#pragma unroll
  for (int n = 0; n < (kSecond ? 3 : 1); ++n) {
    const double sum = block_sum(all[n]);
    if (threadIdx.x == 0) job.t.parts[n * kMaxParts + place.block] = sum;
  }
}

template <typename A>
struct Coefficients {
  A sigma, of_m, of_g, of_uv;
};

// By the first warp. grad:  G / sigma + of_uv u v'
// grad2:  (D + of_m M) / sigma  and  (of_g G + of_uv u v') / sigma, which keeps the coefficients of the order
// of G's and D's elements even where 1 / sigma^2 is beyond float32.
template <bool kSecond, typename A>
__device__ __forceinline__ Coefficients<A> coefficients_of(const Job& job, const Sums<kSecond>& sums, A sigma,
                                                           A gs) {
  const double s = sigma;
  if constexpr (!kSecond) return {sigma, A(0), A(1), static_cast<A>(gs - sums.gm / s / s)};
  const A minus = static_cast<A>(-sums.a / s);
  return {sigma, minus, minus, static_cast<A>((2 * sums.a * sums.gm / s - sums.dg) / s)};
}

template <bool kSecond, int V, typename T, typename A>
__device__ __forceinline__ void write_gradients(const Job& job, const Coefficients<A>& by, int i) {
  const auto g = load_or_zero<V, T>(job.given.g, i);
  if (kSecond && job.given.g_out != nullptr) {
    const auto m = load<V>(static_cast<const T*>(job.given.weight) + i);
    const auto d = load_or_zero<V, T>(job.given.d, i);
    Pack<T, V> result;
#pragma unroll
    for (int n = 0; n < V; ++n) {
      narrow((widen(d.at[n]) + by.of_m * widen(m.at[n])) / by.sigma, result.at[n]);
    }
    store(result, static_cast<T*>(job.given.g_out) + i);
  }
  if (job.given.out == nullptr) return;
  const auto at = coordinates_of(job, i);
  const A u = by.of_uv * widen(static_cast<const T*>(job.given.u)[at.row]);
  const auto v = load<V>(static_cast<const T*>(job.given.v) + at.column);
  Pack<T, V> result;
#pragma unroll
  for (int n = 0; n < V; ++n) {
    const A uv = u * widen(v.at[n]);
    const A from_g = by.of_g * widen(g.at[n]);
    narrow(kSecond ? (from_g + uv) / by.sigma : from_g / by.sigma + uv, result.at[n]);
  }
  store(result, static_cast<T*>(job.given.out) + i);
}

constexpr int kPacks = 4;  // that a thread writes

// `gs` is read by grad; `dgs` is written by grad2.
template <bool kSecond, typename T>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(const __grid_constant__ Table table, const AccumulatorOf<T>* sigmas,
                    const AccumulatorOf<T>* gs, AccumulatorOf<T>* dgs) {
  using A = AccumulatorOf<T>;
  const Place place = find_place(table);
  const Job& job = table.jobs[place.job];
  const auto by = by_first_warp([&] {
    Sums<kSecond> sums = {0, 0, 0};
    const double* const parts = job.t.parts;
    sums.gm = add_parts(parts, job.t.count);
    if (kSecond) {
      sums.dg = add_parts(parts + kMaxParts, job.t.count);
      sums.a = add_parts(parts + 2 * kMaxParts, job.t.count);
      if (dgs != nullptr && place.block == 0 && lane() == 0) dgs[job.index] = static_cast<A>(sums.a);
    }
    return coefficients_of(job, sums, sigmas[job.index], gs == nullptr ? A(0) : gs[job.index]);
  });
  const int V = job.wide ? kWide<T> : 1;
#pragma unroll 1
  for (int n = 0; n < kPacks; ++n) {
    const int64_t i = ((int64_t{place.block} * kPacks + n) * kThreads + threadIdx.x) * V;
    if (i >= job.elements) break;
    if (job.wide) {
      write_gradients<kSecond, kWide<T>, T>(job, by, static_cast<int>(i));
    } else {
      write_gradients<kSecond, 1, T>(job, by, static_cast<int>(i));
    }
  }
}

}  // namespace
}  // namespace fastgan::cuda
