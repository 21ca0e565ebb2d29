// The filters of conv3x3 in the transformed domain.
#pragma once

#include "conv3x3.h"
#include "conv3x3_tiles.h"

namespace fastgan {
namespace {

constexpr int kTaps = 9;
constexpr int64_t kSlice = 16;  // channels of x whose filters are transformed at a time

// [place][chunk of channels of y][channel of x][lane].
template <typename T>
struct Filters {
  T* first;
  int64_t channels, chunks;

  static int64_t size(int64_t channels, int64_t chunks) { return kPlaces * chunks * channels * kLanes<T>; }
  T* at(int64_t place, int64_t chunk, int64_t channel) const {
    return first + ((place * chunks + chunk) * channels + channel) * kLanes<T>;
  }
  int64_t chunk_pitch() const { return channels * kLanes<T>; }
};

// The filters in pieces that threads transform: kSlice channels of x and a chunk of those of y.
struct Slice {
  int64_t chunk, c0;

  static int64_t count(const Conv3x3Args& a, int64_t chunks) { return chunks * ceil_div(a.C, kSlice); }
};

inline Slice slice_of(int64_t item, int64_t chunks) { return {item % chunks, item / chunks * kSlice}; }

// The taps of a slice as lanes, [channel][tap][lane]; `taps` has room for kSlice + kLanes / kTaps + 1
// filters.
template <typename T>
void read_taps(const T* w, const Conv3x3Args& a, const Slice& slice, T* taps) {
  const int64_t k0 = slice.chunk * kLanes<T>;
  const int64_t lanes = smaller(kLanes<T>, a.K - k0), n = smaller(kSlice, a.C - slice.c0);
  if (!a.turned) {
    planes_to_lanes(w + (k0 * a.C + slice.c0) * kTaps, a.C * kTaps, n * kTaps, lanes, taps);
    return;
  }
  for (int64_t c = slice.c0; c < slice.c0 + n; ++c) {
    const int64_t first = (c * a.K + k0) * kTaps, left = a.C * a.K * kTaps - first;
    T* to = taps + (c - slice.c0) * kTaps * kLanes<T>;
    // A block is wider than a filter: it reads the beginning of the next ones and writes it where they go.
    const bool block = kLanes<T> > kTaps && lanes == kLanes<T> && left >= (kLanes<T> - 1) * kTaps + kLanes<T>;
    if (block) {
      transpose_block(w + first, kTaps, to, kLanes<T>);
    } else {
      planes_to_lanes(w + first, kTaps, kTaps, lanes, to);
    }
  }
}

template <typename T>
void transform_filters(const T* w, const Conv3x3Args& a, const Slice& slice, const Filters<T>& to) {
  alignas(64) T taps[(kSlice + 2) * kTaps * kLanes<T>];
  read_taps(w, a, slice, taps);
  for (int64_t c = 0; c < smaller(kSlice, a.C - slice.c0); ++c) {
    const T* filter = taps + c * kTaps * kLanes<T>;
    transform_tile<TapsToPlaces, T>(
        [&](int i, int j) {
          const int tap = 3 * i + j;
          return Simd<T>::load(filter + (a.turned ? kTaps - 1 - tap : tap) * kLanes<T>);
        },
        [&](int i, int j, Vec<T> u) { Simd<T>::store(to.at(4 * i + j, slice.chunk, slice.c0 + c), u); });
  }
}

// The gradient to the taps of a slice, from the sums over the tiles.
template <typename T>
void taps_of_sums(const Filters<T>& sums, const Conv3x3Args& a, const Slice& slice, T* dw) {
  alignas(64) T taps[kSlice * kTaps * kLanes<T>];
  const int64_t k0 = slice.chunk * kLanes<T>, n = smaller(kSlice, a.C - slice.c0);
  for (int64_t c = 0; c < n; ++c)
    transform_tile<PlacesToTaps, T>(
        [&](int i, int j) { return Simd<T>::load(sums.at(4 * i + j, slice.chunk, slice.c0 + c)); },
        [&](int i, int j, Vec<T> t) { Simd<T>::store(taps + (c * kTaps + 3 * i + j) * kLanes<T>, t); });
  lanes_to_planes(taps, n * kTaps, smaller(kLanes<T>, a.K - k0), dw + (k0 * a.C + slice.c0) * kTaps,
                  a.C * kTaps);
}

}  // namespace
}  // namespace fastgan
