// What upfirdn2d does to rows of numbers: weighted sums, and moving them between the tensors' element type
// and order and those of the arithmetic.
#pragma once

#include "simd.h"
#include "upfirdn2d_filter.h"

namespace fastgan {
namespace {

// Calls block(V, i) for n >= kLanes elements, V vectors from i at a time; the last vector may overlap the one
// before it, so that nothing beyond n is touched and no element is left to a scalar loop.
template <int V, typename T, typename Block>
inline void for_each_vector(int64_t n, const Block& block) {
  constexpr int64_t lanes = Simd<T>::kLanes;
  int64_t i = 0;
  for (; i + V * lanes <= n; i += V * lanes) block(std::integral_constant<int, V>{}, i);
  for (; i + lanes <= n; i += lanes) block(std::integral_constant<int, 1>{}, i);
  if (i < n) block(std::integral_constant<int, 1>{}, n - lanes);
}

// out[i] = sum of N terms, in their order.
template <int N, typename T>
inline void sum_of(const T* x, const Terms<T>& terms, T* out, int64_t n) {
  using S = Simd<T>;
  T w[N];
  const T* from[N];
  for (int t = 0; t < N; ++t) w[t] = terms.weight[t], from[t] = x + terms.offset[t];
  if (n < S::kLanes) {
    for (int64_t i = 0; i < n; ++i) {
      T sum = w[0] * from[0][i];
      for (int t = 1; t < N; ++t) sum += w[t] * from[t][i];
      out[i] = sum;
    }
    return;
  }
  for_each_vector<1, T>(n, [&](auto, int64_t i) {
    typename S::Vec sum = w[0] * S::load(from[0] + i);
    for (int t = 1; t < N; ++t) sum += w[t] * S::load(from[t] + i);
    S::store(out + i, sum);
  });
}

// The same for any number of terms: several vectors for each pass over them.
template <typename T>
void sum_of_many(const T* x, const Terms<T>& terms, T* out, int64_t n) {
  using S = Simd<T>;
  if (n < S::kLanes) {
    for (int64_t i = 0; i < n; ++i) {
      T sum = 0;
      for (int64_t t = 0; t < terms.count; ++t) sum += terms.weight[t] * x[terms.offset[t] + i];
      out[i] = sum;
    }
    return;
  }
  for_each_vector<4, T>(n, [&](auto V, int64_t i) {
    typename S::Vec sum[V] = {};
    for (int64_t t = 0; t < terms.count; ++t) {
      const T w = terms.weight[t];
      const T* from = x + terms.offset[t] + i;
      for (int v = 0; v < V; ++v) sum[v] += w * S::load(from + v * S::kLanes);
    }
    for (int v = 0; v < V; ++v) S::store(out + i + v * S::kLanes, sum[v]);
  });
}

template <typename T>
inline void sum(const T* x, const Terms<T>& terms, T* out, int64_t n) {
  switch (terms.count) {
    case 1:
      return sum_of<1>(x, terms, out, n);
    case 2:
      return sum_of<2>(x, terms, out, n);
    case 3:
      return sum_of<3>(x, terms, out, n);
    case 4:
      return sum_of<4>(x, terms, out, n);
    default:
      return sum_of_many(x, terms, out, n);
  }
}

// `count` pixels of c neighbours, `pitch` apart, as a row of T without gaps.
template <typename E, typename T>
inline void gather(const E* x, int64_t count, int64_t c, int64_t pitch, T* out) {
  if (c == pitch) c *= count, count = 1;
  for (int64_t p = 0; p < count; ++p) {
#pragma omp simd
    for (int64_t i = 0; i < c; ++i) out[p * c + i] = load(x + p * pitch + i);
  }
}

// A row of `count` pixels of c numbers as `parts` rows, `size` apart: pixel s parts + t is pixel s of row t.
template <typename T>
inline void split(const T* row, int64_t count, int64_t c, int64_t parts, int64_t size, T* out) {
  if (parts == 2 && c == 1) {
    T* odd = out + size;
#pragma omp simd
    for (int64_t s = 0; s < count / 2; ++s) out[s] = row[2 * s], odd[s] = row[2 * s + 1];
    if (count % 2) out[count / 2] = row[count - 1];
    return;
  }
  for (int64_t p = 0; p < count; ++p) {
    T* to = out + p % parts * size + p / parts * c;
    for (int64_t i = 0; i < c; ++i) to[i] = row[p * c + i];
  }
}

// The reverse: pixels of `parts` rows in turn, stored as elements E of pixels `pitch` apart.
template <typename E, typename T>
inline void merge(const T* rows, int64_t size, int64_t parts, int64_t count, int64_t c, int64_t pitch, E* y) {
  if (parts == 1 && c == pitch) {
#pragma omp simd
    for (int64_t i = 0; i < count * c; ++i) store(y + i, rows[i]);
    return;
  }
  if (parts == 2 && pitch == 1) {
    const T* odd = rows + size;
#pragma omp simd
    for (int64_t s = 0; s < count / 2; ++s) store(y + 2 * s, rows[s]), store(y + 2 * s + 1, odd[s]);
    if (count % 2) store(y + count - 1, rows[count / 2]);
    return;
  }
  for (int64_t p = 0; p < count; ++p) {
    const T* from = rows + p % parts * size + p / parts * c;
#pragma omp simd
    for (int64_t i = 0; i < c; ++i) store(y + p * pitch + i, from[i]);
  }
}

}  // namespace
}  // namespace fastgan
