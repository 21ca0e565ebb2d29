// Images seen as vectors over channels: lanes hold the channels c0 ... c0 + kLanes - 1 of a pixel, whatever
// the order of the tensor in memory.
#pragma once

#include "simd.h"
#include "sizes.h"

namespace fastgan {
namespace {

template <typename T>
using Vec = typename Simd<T>::Vec;
template <typename T>
constexpr int64_t kLanes = Simd<T>::kLanes;

// The channels of one group of an image that may have several, which lie one after the other.
struct Image {
  int64_t C, H, W;
  bool channels_last;
  int64_t groups = 1;

  int64_t all_channels() const { return groups * C; }
  int64_t size() const { return all_channels() * H * W; }
  // Of a group from the beginning of the image.
  int64_t offset(int64_t group) const { return group * C * (channels_last ? 1 : H * W); }
};

struct Window {  // of an image: rows and columns, the last ones exclusive
  int64_t row0, row1, col0, col1;

  int64_t width() const { return col1 - col0; }
  int64_t pixels() const { return (row1 - row0) * width(); }
};

// to[i][l] = from[l][i], a block of kLanes x kLanes: rounds of exchanges between rows that are kLanes / 2,
// ..., 2, 1 apart.
template <typename T>
void transpose_block(const T* from, int64_t from_pitch, T* to, int64_t to_pitch) {
  constexpr int L = int(kLanes<T>);
#if defined(__clang__)  // has no shuffle by a vector of numbers
  for (int i = 0; i < L; ++i)
    for (int l = 0; l < L; ++l) to[i * to_pitch + l] = from[l * from_pitch + i];
#else
  Vec<T> rows[L];
#pragma GCC unroll 16
  for (int l = 0; l < L; ++l) rows[l] = Simd<T>::load(from + l * from_pitch);
#pragma GCC unroll 4
  for (int distance = L / 2; distance > 0; distance /= 2) {
    typename Simd<T>::IntVec low = {}, high = {};
#pragma GCC unroll 16
    for (int l = 0; l < L; ++l) {
      low[l] = l & distance ? L + l - distance : l;
      high[l] = l & distance ? L + l : l + distance;
    }
#pragma GCC unroll 16
    for (int l = 0; l < L; ++l) {
      if (l & distance) continue;
      const Vec<T> a = rows[l], b = rows[l + distance];
      rows[l] = __builtin_shuffle(a, b, low);
      rows[l + distance] = __builtin_shuffle(a, b, high);
    }
  }
#pragma GCC unroll 16
  for (int l = 0; l < L; ++l) Simd<T>::store(to + l * to_pitch, rows[l]);
#endif
}

// to[i][l] = from[l][i] for i < n, l < lanes; the lanes beyond are zero.
template <typename T>
void planes_to_lanes(const T* from, int64_t pitch, int64_t n, int64_t lanes, T* to) {
  if (lanes == kLanes<T> && n >= kLanes<T>) {
    for (int64_t i = 0; i < n; i += kLanes<T>) {
      const int64_t at = i + kLanes<T> <= n ? i : n - kLanes<T>;  // the last block overlaps the one before it
      transpose_block(from + at, pitch, to + at * kLanes<T>, kLanes<T>);
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i)
    for (int64_t l = 0; l < kLanes<T>; ++l) to[i * kLanes<T> + l] = l < lanes ? from[l * pitch + i] : T(0);
}

// to[l][i] = from[i][l] for i < n, l < lanes.
template <typename T>
void lanes_to_planes(const T* from, int64_t n, int64_t lanes, T* to, int64_t pitch) {
  if (lanes == kLanes<T> && n >= kLanes<T>) {
    for (int64_t i = 0; i < n; i += kLanes<T>) {
      const int64_t at = i + kLanes<T> <= n ? i : n - kLanes<T>;
      transpose_block(from + at * kLanes<T>, kLanes<T>, to + at, pitch);
    }
    return;
  }
  for (int64_t l = 0; l < lanes; ++l)
    for (int64_t i = 0; i < n; ++i) to[l * pitch + i] = from[i * kLanes<T> + l];
}

// The pixels of a window as lanes: pixel (row, col) lies at first + row * row_pitch + col * col_pitch.
template <typename T>
struct LanesOfWindow {
  const T* first;
  int64_t row_pitch, col_pitch;

  const T* at(int64_t row, int64_t col) const { return first + row * row_pitch + col * col_pitch; }
};

// Reads channels c0 ... of the window; `scratch` has room for its pixels, and is not touched where the tensor
// holds them as lanes.
template <typename T>
LanesOfWindow<T> read_lanes(const T* image, const Image& of, int64_t c0, const Window& window, T* scratch) {
  const int64_t lanes = smaller(kLanes<T>, of.C - c0);
  if (of.channels_last) {
    const T* first = image + c0;
    const int64_t pitch = of.all_channels();
    if (lanes == kLanes<T>) return {first, of.W * pitch, pitch};
    T* to = scratch;
    for (int64_t row = window.row0; row < window.row1; ++row)
      for (int64_t col = window.col0; col < window.col1; ++col, to += kLanes<T>)
        for (int64_t l = 0; l < kLanes<T>; ++l)
          to[l] = l < lanes ? first[(row * of.W + col) * pitch + l] : T(0);
  } else {
    const T* first = image + c0 * of.H * of.W + window.row0 * of.W + window.col0;
    if (window.width() == of.W) {  // whole rows follow one another
      planes_to_lanes(first, of.H * of.W, window.pixels(), lanes, scratch);
    } else {
      for (int64_t row = 0; row < window.row1 - window.row0; ++row)
        planes_to_lanes(first + row * of.W, of.H * of.W, window.width(), lanes,
                        scratch + row * window.width() * kLanes<T>);
    }
  }
  const int64_t row_pitch = window.width() * kLanes<T>;
  return {scratch - window.row0 * row_pitch - window.col0 * kLanes<T>, row_pitch, kLanes<T>};
}

// Writes the window's lanes [row][col][lane] to channels c0 ... of the image.
template <typename T>
void write_lanes(const T* lanes_of, const Image& of, int64_t c0, const Window& window, T* image) {
  const int64_t lanes = smaller(kLanes<T>, of.C - c0);
  if (of.channels_last) {
    const T* from = lanes_of;
    for (int64_t row = window.row0; row < window.row1; ++row)
      for (int64_t col = window.col0; col < window.col1; ++col, from += kLanes<T>)
        std::memcpy(image + (row * of.W + col) * of.all_channels() + c0, from, size_t(lanes) * sizeof(T));
    return;
  }
  T* first = image + c0 * of.H * of.W + window.row0 * of.W + window.col0;
  if (window.width() == of.W) return lanes_to_planes(lanes_of, window.pixels(), lanes, first, of.H * of.W);
  for (int64_t row = 0; row < window.row1 - window.row0; ++row)
    lanes_to_planes(lanes_of + row * window.width() * kLanes<T>, window.width(), lanes, first + row * of.W,
                    of.H * of.W);
}

}  // namespace
}  // namespace fastgan
