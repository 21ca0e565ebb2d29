// What upfirdn2d does to rows of numbers: weighted sums, and moving them between the tensors' element type
// and order and those of the arithmetic.
#pragma once

#include <type_traits>

#include "simd.h"
#include "upfirdn2d_filter.h"

namespace fastgan {
namespace {

// Rows of numbers, `pitch` apart.
template <typename T>
struct Rows {
  T* first;
  int64_t pitch;
};

// Calls block(V, i) for n >= kLanes elements, V vectors from i at a time; the last vector may overlap the one
// before it, so that nothing beyond n is touched and no element is left to a scalar loop.
template <int V, typename T, typename Block>
inline void for_each_vector(int64_t n, const Block& block) {
  constexpr int64_t lanes = Simd<T>::kLanes;
  int64_t i = 0;
  for (; i + V * lanes <= n; i += V * lanes) block(std::integral_constant<int, V>{}, i);
  for (; V > 1 && i + lanes <= n; i += lanes) block(std::integral_constant<int, 1>{}, i);
  if (i < n) block(std::integral_constant<int, 1>{}, n - lanes);
}

// Each of `count` rows of `to` becomes a sum of N terms of the row of `from`.
template <int N, typename T>
void sum_of(Rows<const T> from, const Terms<T>& terms, Rows<T> to, int64_t n, int64_t count) {
  using S = Simd<T>;
  T w[N];
  int64_t offset[N];
  for (int t = 0; t < N; ++t) w[t] = terms.weight[t], offset[t] = terms.offset[t];
  for (int64_t row = 0; row < count; ++row) {
    const T* x[N];
    for (int t = 0; t < N; ++t) x[t] = from.first + row * from.pitch + offset[t];
    T* out = to.first + row * to.pitch;
    for_each_vector<1, T>(n, [&](auto, int64_t i) {
      typename S::Vec sum = w[0] * S::load(x[0] + i);
      for (int t = 1; t < N; ++t) sum += w[t] * S::load(x[t] + i);
      S::store(out + i, sum);
    });
  }
}

// The same for any number of terms: several vectors for each pass over them.
template <typename T>
void sum_of_many(Rows<const T> from, const Terms<T>& terms, Rows<T> to, int64_t n, int64_t count) {
  using S = Simd<T>;
  for (int64_t row = 0; row < count; ++row) {
    const T* x = from.first + row * from.pitch;
    T* out = to.first + row * to.pitch;
    for_each_vector<4, T>(n, [&](auto V, int64_t i) {
      typename S::Vec sum[V] = {};
      for (int64_t t = 0; t < terms.count; ++t) {
        const T w = terms.weight[t];
        for (int v = 0; v < V; ++v) sum[v] += w * S::load(x + terms.offset[t] + i + v * S::kLanes);
      }
      for (int v = 0; v < V; ++v) S::store(out + i + v * S::kLanes, sum[v]);
    });
  }
}

// The first n >= kLanes numbers of `count` rows.
template <typename T>
inline void sum(Rows<const T> from, const Terms<T>& terms, Rows<T> to, int64_t n, int64_t count) {
  if (from.pitch == n && to.pitch == n) n *= count, count = 1;
  switch (terms.count) {
    case 1:
      return sum_of<1>(from, terms, to, n, count);
    case 2:
      return sum_of<2>(from, terms, to, n, count);
    case 3:
      return sum_of<3>(from, terms, to, n, count);
    case 4:
      return sum_of<4>(from, terms, to, n, count);
    default:
      return sum_of_many(from, terms, to, n, count);
  }
}

// Each of `count` rows of `to` becomes 2 n numbers, of the sums `even` and `odd` in turn, of N terms each.
template <int N, typename T>
void sum_of_two(Rows<const T> from, const Terms<T>& even, const Terms<T>& odd, Rows<T> to, int64_t n,
                int64_t count) {
  using S = Simd<T>;
  constexpr int lanes = S::kLanes;
  for (int64_t row = 0; row < count; ++row) {
    const T* x = from.first + row * from.pitch;
    T* out = to.first + row * to.pitch;
    for_each_vector<1, T>(n, [&](auto, int64_t i) {
      typename S::Vec sums[2] = {even.weight[0] * S::load(x + even.offset[0] + i),
                                 odd.weight[0] * S::load(x + odd.offset[0] + i)};
      for (int t = 1; t < N; ++t) {
        sums[0] += even.weight[t] * S::load(x + even.offset[t] + i);
        sums[1] += odd.weight[t] * S::load(x + odd.offset[t] + i);
      }
      alignas(64) T a[lanes], b[lanes];  // registers, in the end: two shuffles
      S::store(a, sums[0]);
      S::store(b, sums[1]);
#pragma omp simd
      for (int l = 0; l < lanes; ++l) out[2 * (i + l)] = a[l], out[2 * (i + l) + 1] = b[l];
    });
  }
}

// Whether there is a `sum_two` for phases of these terms.
template <typename T>
inline bool in_pairs(const Terms<T>& even, const Terms<T>& odd) {
  return even.count == odd.count && even.count >= 1 && even.count <= 6 && even.count != 5;
}

template <typename T>
inline void sum_two(Rows<const T> from, const Terms<T>& even, const Terms<T>& odd, Rows<T> to, int64_t n,
                    int64_t count) {
  switch (even.count) {
    case 1:
      return sum_of_two<1>(from, even, odd, to, n, count);
    case 2:
      return sum_of_two<2>(from, even, odd, to, n, count);
    case 3:
      return sum_of_two<3>(from, even, odd, to, n, count);
    case 4:
      return sum_of_two<4>(from, even, odd, to, n, count);
    case 6:
      return sum_of_two<6>(from, even, odd, to, n, count);
  }
}

// `count` rows of n neighbours, n below a vector; `readable` elements may be read from the first on. Zeros
// are written behind each row, up to a vector.
template <typename T>
void copy_short(Rows<const T> from, Rows<T> to, int64_t n, int64_t count, int64_t readable) {
  using S = Simd<T>;
  const auto inside = S::lane() < typename S::Int(n);
  int64_t row = 0;
  for (; row < count && row * from.pitch + S::kLanes <= readable; ++row) {
    S::store(to.first + row * to.pitch, S::keep(S::load(from.first + row * from.pitch), inside));
  }
  for (; row < count; ++row) {
    for (int64_t i = 0; i < n; ++i) to.first[row * to.pitch + i] = from.first[row * from.pitch + i];
  }
}

// A row of `count` pixels of c neighbours, `pitch` apart, as numbers T without gaps.
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
    return;
  }
  for (int64_t s = 0; s < count / parts; ++s) {
    for (int64_t t = 0; t < parts; ++t) {
      const T* from = row + (s * parts + t) * c;
      T* to = out + t * size + s * c;
      for (int64_t i = 0; i < c; ++i) to[i] = from[i];
    }
  }
}

// The reverse: `count` pixels of `parts` rows in turn, stored as elements E of pixels `pitch` apart.
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
