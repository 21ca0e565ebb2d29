// The filters of minimal filtering in the transformed domain.
#pragma once

#include "minimal_tiles.h"

namespace fastgan {
namespace {

constexpr int64_t kSlice = 16;  // channels of x whose filters are transformed at a time

// How a convolution of C channels to K reads its filters.
struct FilterOrder {
  bool transposed;  // they are [C, K, taps], else [K, C, taps]
  bool turned;      // by 180 degrees
};

// [place][chunk of channels of y][channel of x][lane].
template <typename T>
struct Filters {
  T* first;
  int64_t channels, chunks;

  // The odd vector keeps the places of a filter from sharing a few sets of the cache.
  static int64_t pitch(int64_t channels, int64_t chunks) { return (chunks * channels + 1) * kLanes<T>; }
  static int64_t size(int64_t places, int64_t channels, int64_t chunks) {
    return places * pitch(channels, chunks);
  }
  T* at(int64_t place, int64_t chunk, int64_t channel) const {
    return first + place * pitch(channels, chunks) + (chunk * channels + channel) * kLanes<T>;
  }
  int64_t chunk_pitch() const { return channels * kLanes<T>; }
};

// The filters in pieces that threads transform: kSlice channels of x and a chunk of those of y, which is
// number `chunk` of a group of them. `group` is the number of the group's first chunk.
struct Slice {
  int64_t chunk, c0;

  static int64_t count(int64_t C, int64_t chunks) { return chunks * ceil_div(C, kSlice); }
};

inline Slice slice_of(int64_t item, int64_t chunks) { return {item % chunks, item / chunks * kSlice}; }

// The taps of a slice as lanes, [channel][tap][lane]; `to` has room for kSlice + kLanes / kTaps + 1 filters.
template <int kTaps, typename T>
void read_taps(const T* w, int64_t C, int64_t K, bool transposed, const Slice& slice, int64_t group, T* to) {
  const int64_t k0 = (group + slice.chunk) * kLanes<T>;
  const int64_t lanes = smaller(kLanes<T>, K - k0), n = smaller(kSlice, C - slice.c0);
  if (!transposed) {
    planes_to_lanes(w + (k0 * C + slice.c0) * kTaps, C * kTaps, n * kTaps, lanes, to);
    return;
  }
  for (int64_t c = slice.c0; c < slice.c0 + n; ++c, to += kTaps * kLanes<T>) {
    const int64_t first = (c * K + k0) * kTaps, left = C * K * kTaps - first;
    // A block is wider than a filter: it reads the beginning of the next ones and writes it where they go.
    const bool block = kLanes<T> > kTaps && lanes == kLanes<T> && left >= (kLanes<T> - 1) * kTaps + kLanes<T>;
    if (block) {
      transpose_block(w + first, kTaps, to, kLanes<T>);
    } else {
      planes_to_lanes(w + first, kTaps, kTaps, lanes, to);
    }
  }
}

template <typename Transform, typename T>
void transform_filters(const T* w, int64_t C, int64_t K, const FilterOrder& order, const Slice& slice,
                       int64_t group, const Filters<T>& to) {
  constexpr int n = Transform::kIn, kTaps = n * n;
  alignas(64) T taps[(kSlice + 2) * kTaps * kLanes<T>];
  read_taps<kTaps>(w, C, K, order.transposed, slice, group, taps);
  for (int64_t c = 0; c < smaller(kSlice, C - slice.c0); ++c) {
    const T* filter = taps + c * kTaps * kLanes<T>;
    transform_tile<Transform, T>(
        [&](int i, int j) {
          const int tap = n * i + j;
          return Simd<T>::load(filter + (order.turned ? kTaps - 1 - tap : tap) * kLanes<T>);
        },
        [&](int i, int j, Vec<T> u) {
          Simd<T>::store(to.at(Transform::kOut * i + j, slice.chunk, slice.c0 + c), u);
        });
  }
}

// The gradient to the taps of a slice, from the sums over the tiles: those of `shares` parts, `pitch` apart.
template <typename Transform, typename T>
void taps_of_sums(const Filters<T>& sums, int64_t shares, int64_t pitch, int64_t C, int64_t K,
                  const Slice& slice, int64_t group, T* dw) {
  constexpr int m = Transform::kOut, kTaps = m * m;
  alignas(64) T taps[kSlice * kTaps * kLanes<T>];
  const int64_t k0 = (group + slice.chunk) * kLanes<T>, n = smaller(kSlice, C - slice.c0);
  for (int64_t c = 0; c < n; ++c)
    transform_tile<Transform, T>(
        [&](int i, int j) {
          const T* of = sums.at(Transform::kIn * i + j, slice.chunk, slice.c0 + c);
          Vec<T> sum = Simd<T>::load(of);
          for (int64_t share = 1; share < shares; ++share) sum += Simd<T>::load(of + share * pitch);
          return sum;
        },
        [&](int i, int j, Vec<T> t) { Simd<T>::store(taps + (c * kTaps + m * i + j) * kLanes<T>, t); });
  lanes_to_planes(taps, n * kTaps, smaller(kLanes<T>, K - k0), dw + (k0 * C + slice.c0) * kTaps, C * kTaps);
}

}  // namespace
}  // namespace fastgan
