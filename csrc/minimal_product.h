// The product of matrices at the heart of minimal filtering. Its right operand and its result are held in
// chunks of kLanes columns: [chunk][row][lane].
//
// kRows x P accumulators stay in registers. Each term of the sum loads P vectors and multiplies them by kRows
// numbers, which the processor spreads over a vector as it reads them: with 8 x 3, 11 loads for 24
// multiply-adds, where a processor that starts two multiply-adds in a cycle starts two loads beside them.
#pragma once

#include "minimal_lanes.h"

namespace fastgan {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMostRows = 8;  // 32 registers: 24 accumulators, 3 vectors, one number
#else
constexpr int kMostRows = 4;  // 16 registers: 12, 3, one
#endif
constexpr int kMostChunks = 3;
// Rows of the filters' gradient lie in a vector: kRows divides kLanes.
template <typename T>
constexpr int kRows = kMostRows < Simd<T>::kLanes ? kMostRows : Simd<T>::kLanes;

// out[chunk][row] (+)= sum over s of a(row, s) b[chunk][s], for kRows rows.
template <typename T>
struct Product {
  const T* a;
  int64_t a_row, a_term;  // from a row, and from a term of the sum, to the next one
  int64_t a_block;        // from kLanes terms to the next ones
  const T* b;
  int64_t b_chunk;
  int64_t terms;
  T* out;
  int64_t out_chunk;
};

// The sum starts at zero even where it is added to what is there: long sums are made of short ones, whose
// rounding errors are smaller.
template <typename T, int P, bool kAdd>
void multiply(const Product<T>& p) {
  constexpr int64_t L = kLanes<T>;
  Vec<T> sums[kRows<T>][P] = {};
  for (int64_t block = 0; block * L < p.terms; ++block) {
    const T *a = p.a + block * p.a_block, *b = p.b + block * L * L;
    const int64_t terms = smaller(L, p.terms - block * L);
    for (int64_t s = 0; s < terms; ++s) {
      Vec<T> right[P];
#pragma GCC unroll 3
      for (int q = 0; q < P; ++q) right[q] = Simd<T>::load(b + q * p.b_chunk + s * L);
#pragma GCC unroll 8
      for (int r = 0; r < kRows<T>; ++r) {
        const T left = a[r * p.a_row + s * p.a_term];
#pragma GCC unroll 3
        for (int q = 0; q < P; ++q) sums[r][q] += left * right[q];
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows<T>; ++r)
#pragma GCC unroll 3
    for (int q = 0; q < P; ++q) {
      T* out = p.out + q * p.out_chunk + r * L;
      Simd<T>::store(out, kAdd ? Simd<T>::load(out) + sums[r][q] : sums[r][q]);
    }
}

template <typename T, bool kAdd>
void multiply(const Product<T>& p, int64_t chunks) {
  if (chunks == 3) return multiply<T, 3, kAdd>(p);
  if (chunks == 2) return multiply<T, 2, kAdd>(p);
  multiply<T, 1, kAdd>(p);
}

template <typename T>
void multiply(const Product<T>& p, int64_t chunks, bool add) {
  add ? multiply<T, true>(p, chunks) : multiply<T, false>(p, chunks);
}

// Chunks in panels of three, and of two where a single one would be left over.
struct Panels {
  int64_t chunks;

  int64_t count() const { return ceil_div(chunks, kMostChunks); }
  int64_t twos() const { return chunks == 1 ? 0 : kMostChunks * count() - chunks; }
  int64_t first(int64_t panel) const {
    const int64_t threes = count() - twos();
    return panel < threes ? kMostChunks * panel : kMostChunks * threes + 2 * (panel - threes);
  }
  int64_t size(int64_t panel) const {
    return (panel + 1 < count() ? first(panel + 1) : chunks) - first(panel);
  }
};

}  // namespace
}  // namespace fastgan
