// The products M v and M' u of spectral_norm.cu, from one read or each from its own.
#pragma once

#include "spectral_norm_table.cuh"

namespace fastgan::cuda {
namespace {

// Leaves in values[0] the warp's sum of value lane / (32 / N). Each step sends away the half that the partner
// will own: 9 shuffles for 8 values, where whole sums would take 40.
template <int N, int kLanes = kWarp / 2, typename A>
__device__ __forceinline__ void scatter_sums(A* values) {
  if constexpr (N > 1) {
    const bool upper = lane() & kLanes;
#pragma unroll
    for (int n = 0; n < N / 2; ++n) {
      const A sent = upper ? values[n] : values[n + N / 2];
      const A kept = upper ? values[n + N / 2] : values[n];
      values[n] = kept + __shfl_xor_sync(0xffffffffu, sent, kLanes);
    }
  } else {
    values[0] += __shfl_xor_sync(0xffffffffu, values[0], kLanes);
  }
  if constexpr (kLanes > 1) scatter_sums<(N > 1 ? N / 2 : 1), kLanes / 2>(values);
}

// The sums of N values over a team, a warp or the whole block, for all its threads.
template <bool kBlock, int N, typename A>
__device__ __forceinline__ void team_sums(A (&values)[N]) {
  scatter_sums<N>(values);
  if constexpr (kBlock) {
    __shared__ A of_warp[N][kRowWarps];
    __shared__ A sums[N];
    const int warp = threadIdx.x / kWarp;
    if (lane() % (kWarp / N) == 0) of_warp[lane() / (kWarp / N)][warp] = values[0];
    __syncthreads();
    if (warp < N) {
      const A sum = warp_sum(lane() < kRowWarps ? of_warp[warp][lane()] : A(0));
      if (lane() == 0) sums[warp] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; ++n) values[n] = sums[n];
  } else {
    const A own = values[0];
#pragma unroll
    for (int n = 0; n < N; ++n) values[n] = __shfl_sync(0xffffffffu, own, n * (kWarp / N));
  }
}

// 2^-e for the largest 2^e <= x, kept a normal number.
template <typename A>
__device__ __forceinline__ A inverse_power(A x) {
  return ldexp(A(1), -min(ilogb(x), sizeof(A) == 8 ? 1022 : 126));
}

// One slab of rows, G at a time: a team (a warp or the block) reads them into registers, K vectors of V
// elements a thread and row, makes their y_j = <M_j, v>, and adds y_j M_j to its part of t.
//
// t is of the size of M^2, which float32 may not hold, so y_j is first multiplied by a power of two that
// keeps it below 2. The power shrinks, and t with it, when a larger y_j comes.
template <typename T, int V, int K, int G, bool kBlock>
__device__ __forceinline__ void take_rows(const Job& job, const Factor<T>& v, int slab) {
  using A = AccumulatorOf<T>;
  constexpr int kTeam = kBlock ? kRowThreads : kWarp;
  constexpr int kStep = kTeam * V;
  const int member = threadIdx.x % kTeam;
  const int left = job.w - member * V;  // columns from the thread's first one on
  const T* weight = static_cast<const T*>(job.given.weight) + slab * job.rows * job.w + member * V;
  const int end = min((slab + 1) * job.rows, job.h);
  A t[K][V] = {};
  A power = ldexp(A(1), sizeof(A) == 8 ? 1022 : 126);
#pragma unroll 1
  for (int row = slab * job.rows; row < end; row += G) {
    Pack<T, V> x[G][K] = {};
#pragma unroll
    for (int g = 0; g < G; ++g) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        if (row + g < end && k * kStep < left) x[g][k] = load<V>(weight + k * kStep);
      }
      weight += job.w;
    }
    A y[G] = {};
#pragma unroll
    for (int k = 0; k < K; ++k) {
      A unit[V] = {};
      if (k * kStep < left) v.load_to(unit, member * V + k * kStep);
#pragma unroll
      for (int g = 0; g < G; ++g) {
#pragma unroll
        for (int i = 0; i < V; ++i) y[g] += widen(x[g][k].at[i]) * unit[i];
      }
    }
    team_sums<kBlock>(y);
    A largest = 0;
#pragma unroll
    for (int g = 0; g < G; ++g) {
      if (member == 0 && row + g < end) static_cast<A*>(job.y.at)[row + g] = y[g];
      largest = fmax(largest, fabs(y[g]));
    }
#pragma unroll
    for (int g = 0; g < G; ++g) {
#pragma unroll
      for (int k = 0; k < K; ++k) forget_conversions(x[g][k]);
    }
    const A next = largest * power > 1 ? inverse_power(largest) : power;
    if (next != power) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
#pragma unroll
        for (int i = 0; i < V; ++i) t[k][i] *= next / power;
      }
      power = next;
    }
#pragma unroll
    for (int g = 0; g < G; ++g) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
#pragma unroll
        for (int i = 0; i < V; ++i) t[k][i] += y[g] * power * widen(x[g][k].at[i]);
      }
    }
  }
  A* const partials = static_cast<A*>(job.partials) + slab * job.w + member * V;
#pragma unroll
  for (int k = 0; k < K; ++k) {
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (k * kStep < left) partials[k * kStep + i] = t[k][i];
    }
  }
  if (member == 0) {
    double squares = 0;  // of what this thread wrote: in the loop above it would take registers
    for (int row = slab * job.rows; row < end; ++row) {
      const double y = static_cast<const A*>(job.y.at)[row];
      squares += y * y;
    }
    job.y.parts[slab] = squares;
    static_cast<A*>(job.powers)[slab] = power;
  }
}

// Both products, t in parts.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    rows_kernel(const __grid_constant__ Table table, bool first, double eps) {
  constexpr int V = kWide<T>;
  const Place place = find_place(table);
  const Job& job = table.jobs[place.job];
  const auto v = take_factor<T>(job.given.v, job.t, first);
  if (place.block == 0 && threadIdx.x < kWarp) {
    const double factor = first ? 1 : unit_factor(job.t, eps) / v.power;
    if (threadIdx.x == 0) factor_of(job.y) = factor;
  }
  const int slab = job.way < Way::block1 ? place.block * kRowWarps + threadIdx.x / kWarp : place.block;
  if (slab >= job.slabs) return;
  switch (job.way) {
    case Way::separate:
      break;
    case Way::scalar1:
      return take_rows<T, 1, 1, 8, false>(job, v, slab);
    case Way::scalar8:
      return take_rows<T, 1, 8, V == 2 ? 2 : 4, false>(job, v, slab);
    case Way::warp1:
      return take_rows<T, V, 1, 8, false>(job, v, slab);
    case Way::warp4:
      return take_rows<T, V, 4, V == 4 ? 4 : 2, false>(job, v, slab);
    case Way::block1:
      return take_rows<T, V, 1, 8, true>(job, v, slab);
    case Way::block2:
      return take_rows<T, V, 2, V == 4 ? 8 : 4, true>(job, v, slab);
    case Way::block3:
      return take_rows<T, V, 3, 4, true>(job, v, slab);
    case Way::block5:
      return take_rows<T, V, 5, V == 4 ? 2 : 1, true>(job, v, slab);
    case Way::block8:
      if constexpr (V <= 4) return take_rows<T, V, 8, 1, true>(job, v, slab);
  }
}

template <typename T>
Way choose_way(int w, bool wide) {
  if (!wide) return w <= kWarp ? Way::scalar1 : w <= 8 * kWarp ? Way::scalar8 : Way::separate;
  const int vectors = w / kWide<T>;
  if (vectors <= kWarp) return Way::warp1;
  if (vectors <= 4 * kWarp) return Way::warp4;
  if (vectors <= kRowThreads) return Way::block1;
  if (vectors <= 2 * kRowThreads) return Way::block2;
  if (vectors <= 3 * kRowThreads) return Way::block3;
  if (vectors <= 5 * kRowThreads) return Way::block5;
  return kWide<T> <= 4 && vectors <= 8 * kRowThreads ? Way::block8 : Way::separate;
}

// <M_row, v> over one chunk of columns, for all lanes of a warp.
template <int V, typename T>
__device__ __forceinline__ auto multiply_row(const Job& job, const Factor<T>& v, int row, int chunk) {
  using A = AccumulatorOf<T>;
  const T* const weight = static_cast<const T*>(job.given.weight);
  const int steps = (min(kChunk, job.w - chunk * kChunk) / V - lane() + kWarp - 1) / kWarp;
  A sums[V] = {};
#pragma unroll 4
  for (int step = 0; step < steps; ++step) {
    const int column = chunk * kChunk + (step * kWarp + lane()) * V;
    const int a = job.A == 1 ? 0 : column / job.B;
    const auto x = load<V>(weight + (a * job.h + row - a) * job.B + column);
    A unit[V];
    v.load_to(unit, column);
#pragma unroll
    for (int i = 0; i < V; ++i) sums[i] += widen(x.at[i]) * unit[i];
  }
  A sum = sums[0];
#pragma unroll
  for (int i = 1; i < V; ++i) sum += sums[i];
  return warp_sum(sum);
}

// M v, in parts: a warp for each row and chunk of columns. Neighbours take neighbouring rows, whose segments
// share cache lines where A > 1.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    multiply_v_kernel(const __grid_constant__ Table table, bool given) {
  const Place place = find_place(table);
  const Job& job = table.jobs[place.job];
  const auto v = take_factor<T>(job.given.v, job.t, given);
  const int64_t item = int64_t{place.block} * kWarps + threadIdx.x / kWarp;
  if (item >= int64_t{job.h} * job.chunks) return;
  const int chunk = static_cast<int>(item / job.h);
  const int row = static_cast<int>(item % job.h);
  const auto sum =
      job.wide ? multiply_row<kWide<T>>(job, v, row, chunk) : multiply_row<1>(job, v, row, chunk);
  if (lane() == 0) static_cast<AccumulatorOf<T>*>(job.partials)[item] = sum;
}

template <int V, typename T>
__device__ __forceinline__ void multiply_columns(const Job& job, const Factor<T>& u, int slab, int column) {
  using A = AccumulatorOf<T>;
  const int end = min((slab + 1) * job.rows, job.h);
  const int a = job.A == 1 ? 0 : column / job.B;
  const T* const x = static_cast<const T*>(job.given.weight) + (a * job.h - a) * job.B + column;
  A sums[V] = {};
#pragma unroll 4
  for (int row = slab * job.rows; row < end; ++row) {
    const auto pack = load<V>(x + row * job.B);
    A unit[1];
    u.load_to(unit, row);
#pragma unroll
    for (int i = 0; i < V; ++i) sums[i] += widen(pack.at[i]) * unit[0];
  }
  A* const partials = static_cast<A*>(job.partials) + slab * job.w + column;
#pragma unroll
  for (int i = 0; i < V; ++i) partials[i] = sums[i];
}

// M' u, in parts: a thread for each slab and 16 bytes of columns.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    multiply_u_kernel(const __grid_constant__ Table table, bool given) {
  const Place place = find_place(table);
  const Job& job = table.jobs[place.job];
  const auto u = take_factor<T>(job.given.u, job.y, given);
  const int64_t item = int64_t{place.block} * kThreads + threadIdx.x;
  const int V = job.wide ? kWide<T> : 1;
  const int slab = static_cast<int>(item / (job.w / V));
  const int column = static_cast<int>(item % (job.w / V)) * V;
  if (slab >= job.slabs) return;
  job.wide ? multiply_columns<kWide<T>>(job, u, slab, column) : multiply_columns<1>(job, u, slab, column);
}

// How the partials of a raw vector add up: with what power of two each, and what the sum stands for.
template <typename A>
struct Sum {
  A power;
  double factor;
};

// By the first warp. `other` is the vector that was multiplied, unless that was given.
template <typename A>
__device__ __forceinline__ Sum<A> measure(const Job& job, const RawVector& other, bool one_read, bool given,
                                          double eps) {
  if (!one_read) return {A(1), given ? 1 : unit_factor(other, eps) / power_of<A>(other)};
  A power = static_cast<const A*>(job.powers)[0];
  for (int n = lane(); n < job.slabs; n += kWarp) power = fmin(power, static_cast<const A*>(job.powers)[n]);
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    power = fmin(power, __shfl_xor_sync(0xffffffffu, power, lanes));
  }
  return {power, unit_factor(other, eps) / power};
}

// Adds up the partials of y or t: warp n of a block those of slabs n + 8 k for 32 columns; then the warps'
// sums. `dot`: makes <u, y> of it, where otherwise it is the sum of squares.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(const __grid_constant__ Table table, bool is_y, bool given, bool dot, double eps) {
  using A = AccumulatorOf<T>;
  __shared__ A ratios[kMaxSlabs];
  __shared__ A strands[kWarps][kWarp];
  const Place place = find_place(table);
  const Job& job = table.jobs[place.job];
  const RawVector& raw = is_y ? job.y : job.t;
  const bool one_read = !is_y && job.way != Way::separate;
  const auto how = by_first_warp([&] { return measure<A>(job, is_y ? job.t : job.y, one_read, given, eps); });
  const int partials = is_y ? job.chunks : job.slabs;
  for (int n = threadIdx.x; n < job.slabs && one_read; n += kThreads) {
    ratios[n] = how.power / static_cast<const A*>(job.powers)[n];
  }
  const int warp = threadIdx.x / kWarp;
  double sum = 0;
  for (int64_t start = place.block * kWarp; start < raw.length; start += place.blocks * kWarp) {
    __syncthreads();  // ratios are there, strands were read
    const int64_t i = start + lane();
    A strand = 0;
    if (i < raw.length) {
      const A* const column = static_cast<const A*>(job.partials) + i;
#pragma unroll 4
      for (int n = warp; n < partials; n += kWarps) {
        strand += column[int64_t{n} * raw.length] * (one_read ? ratios[n] : A(1));
      }
    }
    strands[warp][lane()] = strand;
    __syncthreads();
    if (warp == 0 && i < raw.length) {
      A value = 0;
#pragma unroll
      for (int n = 0; n < kWarps; ++n) value += strands[n][lane()];
      static_cast<A*>(raw.at)[i] = value;
      const double with = dot ? widen(static_cast<const T*>(job.given.u)[i]) : value;
      sum += with * static_cast<double>(value);
    }
  }
  if (warp == 0) sum = warp_sum(sum);
  if (threadIdx.x == 0) {
    raw.parts[place.block] = sum;
    if (place.block == 0) factor_of(raw) = how.factor;
  }
}

}  // namespace
}  // namespace fastgan::cuda
