// What the passes of attention.cpp share: blocks of queries and keys in registers' order, and the tile of a
// block of queries against one of keys, on which everything of size N x M is computed (attention.h has the
// formulas).
#pragma once

#include "attention.h"
#include "chunked_matrix.h"
#include "scratch.h"

namespace fastgan {
namespace {

// Queries and keys of a tile. A tile of floats is 16 KiB, and each number of a block takes part in kBlock
// products.
constexpr int64_t kBlock = 64;

// Queries of a task: a block of keys is read once for all of them.
constexpr int64_t kMostQueries = 4 * kBlock;

template <typename T>
constexpr T kInfinity = T(__builtin_inf());

// Begins as zeros: products go on to the end of a vector or a group of rows, where nothing may have been
// read.
template <typename T>
struct Matrix : Chunked<T> {
  Scratch<T> memory;

  Matrix(int64_t rows, int64_t columns)
      : Chunked<T>{nullptr, rows * kLanes<T>}, memory(rows * padded<T>(columns)) {
    this->data = memory.data();
    for (int64_t i = 0; i < rows * padded<T>(columns); ++i) this->data[i] = T(0);
  }
};

template <typename T>
Chunked<T> from_row(const Chunked<T>& matrix, int64_t row) {
  return {matrix.at(row, 0), matrix.pitch};
}

// A block of keys, or of what belongs to keys: as rows, and transposed, as the right operand of a product
// with queries.
template <typename T>
struct KeyBlock {
  Matrix<T> rows, columns;

  explicit KeyBlock(int64_t width) : rows(kBlock, width), columns(padded<T>(width), kBlock) {}
  template <typename E>
  void read(const E* from, int64_t keys, int64_t width) {
    read_rows<E, T>(from, keys, width, T(1), rows);
    transpose<T>(rows, keys, width, columns);
  }
};

// Calls body(offset, row) for each vector of a tile.
template <typename T, typename Body>
void for_each_vector(int64_t rows, int64_t columns, const Chunked<T>& tile, const Body& body) {
  for (int64_t chunk = 0; chunk < chunks_of<T>(columns); ++chunk)
    for (int64_t row = 0; row < rows; ++row) body(chunk * tile.pitch + row * kLanes<T>, row);
}

// A tile's place: queries i0 ... i0 + n - 1 of a head against keys j0 ... j0 + m - 1.
struct Place {
  int64_t head, i0, n, j0, m;
};

// What is added to the scores, and its derivatives: [N or 1, M or 1] for each head.
template <typename T>
struct BiasOf {
  T* data;  // nullptr for none
  const AttentionArgs& s;

  int64_t pitch() const { return s.by_column ? s.M : 1; }
  T* at(int64_t head, int64_t i, int64_t j) const {
    const int64_t first = head / s.bias_inner % s.bias_count * (s.by_row ? s.N : 1);
    return data + (first + (s.by_row ? i : 0)) * pitch() + (s.by_column ? j : 0);
  }

  // tile += bias
  void add_to(const Chunked<T>& tile, const Place& at_place) const {
    constexpr int64_t L = kLanes<T>;
    if (!data) return;
    const auto& [head, i0, n, j0, m] = at_place;
    for (int64_t chunk = 0; chunk < chunks_of<T>(m); ++chunk) {
      const int64_t lanes = smaller(L, m - chunk * L);
      for (int64_t row = 0; row < n; ++row) {
        const T* from = at(head, i0 + row, j0 + chunk * L);
        T* to = tile.at(row, chunk);
        if (s.by_column && lanes == L) {
          Simd<T>::store(to, Simd<T>::load(to) + Simd<T>::load(from));
        } else {
          for (int64_t l = 0; l < lanes; ++l) to[l] += from[s.by_column ? l : 0];
        }
      }
    }
  }

  // bias (+)= tile, where it is by row and by column.
  void collect(const Chunked<T>& tile, const Place& at_place, bool add) const {
    const auto& [head, i0, n, j0, m] = at_place;
    for (int64_t row = 0; row < n; ++row) {
      T* to = at(head, i0 + row, j0);
      for (int64_t j = 0; j < m; ++j) {
        const T value = tile.at(row, j / kLanes<T>)[j % kLanes<T>];
        to[j] = add ? to[j] + value : value;
      }
    }
  }
};

// The scores of a tile, q already scaled; those past the last key are -inf.
template <typename T>
void scores(const Chunked<T>& q, const KeyBlock<T>& k, const BiasOf<T>& bias, const Place& place,
            const Chunked<T>& tile) {
  multiply<T>(q, k.columns, place.n, bias.s.d, place.m, tile, false);
  bias.add_to(tile, place);
  const int64_t last = place.m / kLanes<T>, lanes = place.m % kLanes<T>;
  for (int64_t row = 0; lanes && row < place.n; ++row)
    for (int64_t l = lanes; l < kLanes<T>; ++l) tile.at(row, last)[l] = -kInfinity<T>;
}

// P of a tile, from its queries' highest scores and inverse sums.
template <typename T>
void probabilities(const Chunked<T>& q, const KeyBlock<T>& k, const BiasOf<T>& bias, const T* softmax,
                   const Place& place, const Chunked<T>& tile) {
  scores<T>(q, k, bias, place, tile);
  for_each_vector<T>(place.n, place.m, tile, [&](int64_t at, int64_t row) {
    T* p = tile.data + at;
    Simd<T>::store(p, Simd<T>::exp_nonpositive(Simd<T>::load(p) - softmax[2 * row]) * softmax[2 * row + 1]);
  });
}

}  // namespace
}  // namespace fastgan
