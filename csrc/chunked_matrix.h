// Small matrices in chunks of kLanes columns, [chunk][row][lane], and their products by the kernel of
// minimal_product.h.
//
// One form serves on either side of a product and as its result: a vector holds neighbouring columns of the
// right operand, and the left one is read number by number, across its rows or, transposed, down its columns.
#pragma once

#include "element.h"
#include "minimal_product.h"

namespace fastgan {
namespace {

template <typename T>
struct Chunked {
  T* data;
  int64_t pitch;  // from one chunk to the next: kLanes for each row that there is room for

  T* at(int64_t row, int64_t chunk) const { return data + chunk * pitch + row * kLanes<T>; }
};

template <typename T>
int64_t chunks_of(int64_t columns) {
  return ceil_div(columns, kLanes<T>);
}
template <typename T>
int64_t padded(int64_t columns) {
  return chunks_of<T>(columns) * kLanes<T>;
}

// out (+)= a b: rows x terms by terms x columns. a and out have room for whole groups of kRows rows.
template <typename T>
void multiply(const Chunked<T>& a, const Chunked<T>& b, int64_t rows, int64_t terms, int64_t columns,
              const Chunked<T>& out, bool add) {
  const Panels panels{chunks_of<T>(columns)};
  for (int64_t panel = 0; panel < panels.count(); ++panel) {
    const int64_t first = panels.first(panel);
    for (int64_t r = 0; r < rows; r += kRows<T>) {
      multiply<T>(
          {a.at(r, 0), kLanes<T>, 1, a.pitch, b.at(0, first), b.pitch, terms, out.at(r, first), out.pitch},
          panels.size(panel), add);
    }
  }
}

// out (+)= a' b, where a is terms x rows.
template <typename T>
void multiply_transposed(const Chunked<T>& a, const Chunked<T>& b, int64_t rows, int64_t terms,
                         int64_t columns, const Chunked<T>& out, bool add) {
  constexpr int64_t L = kLanes<T>;
  const Panels panels{chunks_of<T>(columns)};
  for (int64_t panel = 0; panel < panels.count(); ++panel) {
    const int64_t first = panels.first(panel);
    for (int64_t r = 0; r < rows; r += kRows<T>) {
      multiply<T>(
          {a.at(0, r / L) + r % L, 1, L, L * L, b.at(0, first), b.pitch, terms, out.at(r, first), out.pitch},
          panels.size(panel), add);
    }
  }
}

// to = factor * from, which is [rows, columns] by rows; zeros up to whole chunks of columns and kLanes rows.
template <typename E, typename T>
void read_rows(const E* from, int64_t rows, int64_t columns, T factor, const Chunked<T>& to) {
  constexpr int64_t L = kLanes<T>;
  for (int64_t chunk = 0; chunk < chunks_of<T>(columns); ++chunk) {
    const int64_t lanes = smaller(L, columns - chunk * L);
    for (int64_t row = 0; row < rows; ++row) {
      const E* source = from + row * columns + chunk * L;
      T* target = to.at(row, chunk);
      if (lanes == L) {
#pragma omp simd
        for (int64_t l = 0; l < L; ++l) target[l] = factor * load(source + l);
      } else {
        for (int64_t l = 0; l < L; ++l) target[l] = l < lanes ? factor * load(source + l) : T(0);
      }
    }
    for (int64_t row = rows; row < padded<T>(rows); ++row) Simd<T>::store(to.at(row, chunk), Vec<T>{});
  }
}

// The inverse: to = factor * from.
template <typename E, typename T>
void write_rows(const Chunked<T>& from, int64_t rows, int64_t columns, T factor, E* to) {
  constexpr int64_t L = kLanes<T>;
  for (int64_t chunk = 0; chunk < chunks_of<T>(columns); ++chunk) {
    const int64_t lanes = smaller(L, columns - chunk * L);
    for (int64_t row = 0; row < rows; ++row) {
      E* target = to + row * columns + chunk * L;
      const T* source = from.at(row, chunk);
      if (lanes == L) {
#pragma omp simd
        for (int64_t l = 0; l < L; ++l) store(target + l, factor * source[l]);
      } else {
        for (int64_t l = 0; l < lanes; ++l) store(target + l, factor * source[l]);
      }
    }
  }
}

// to = from', whole blocks of kLanes x kLanes.
template <typename T>
void transpose(const Chunked<T>& from, int64_t rows, int64_t columns, const Chunked<T>& to) {
  constexpr int64_t L = kLanes<T>;
  for (int64_t r = 0; r < chunks_of<T>(rows); ++r)
    for (int64_t c = 0; c < chunks_of<T>(columns); ++c) {
      transpose_block(from.at(r * L, c), L, to.at(c * L, r), L);
    }
}

}  // namespace
}  // namespace fastgan
