// What is common to the transforms of minimal filtering: small matrices, applied to the columns of a tile,
// then to its rows.
#pragma once

#include "minimal_lanes.h"

namespace fastgan {
namespace {

// A product along one axis: the input's place times the filter's place belongs to the output's place.
struct Term {
  int input, filter, output;
};

// M in M' for the matrix M of the transform: load(i, j) gives an element of in, store(i, j, v) takes one of
// the result.
template <typename Transform, typename T, typename Load, typename Store>
inline __attribute__((always_inline)) void transform_tile(const Load& load, const Store& store) {
  constexpr int n = Transform::kIn, m = Transform::kOut;
  Vec<T> between[m][n];
#pragma GCC unroll 6
  for (int j = 0; j < n; ++j) {
    Vec<T> column[n], out[m];
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) column[i] = load(i, j);
    Transform::apply(column, out);
#pragma GCC unroll 6
    for (int i = 0; i < m; ++i) between[i][j] = out[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < m; ++i) {
    Vec<T> out[m];
    Transform::apply(between[i], out);
#pragma GCC unroll 6
    for (int j = 0; j < m; ++j) store(i, j, out[j]);
  }
}

}  // namespace
}  // namespace fastgan
