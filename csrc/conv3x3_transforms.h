// The transforms of Winograd's F(2x2, 3x3) along one axis, on vectors over channels.
#pragma once

#include "minimal_transform.h"

namespace fastgan {
namespace {

// B' d
struct PixelsToPlaces {
  static constexpr int kIn = 4, kOut = 4;
  template <typename V>
  static void apply(const V (&d)[4], V (&v)[4]) {
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[1] - d[3];
  }
};

// A' m
struct PlacesToPixels {
  static constexpr int kIn = 4, kOut = 2;
  template <typename V>
  static void apply(const V (&m)[4], V (&y)[2]) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] - m[3];
  }
};

// A dy
struct GradientToPlaces {
  static constexpr int kIn = 2, kOut = 4;
  template <typename V>
  static void apply(const V (&dy)[2], V (&m)[4]) {
    m[0] = dy[0];
    m[1] = dy[0] + dy[1];
    m[2] = dy[0] - dy[1];
    m[3] = -dy[1];
  }
};

// G w
struct TapsToPlaces {
  static constexpr int kIn = 3, kOut = 4;
  template <typename V>
  static void apply(const V (&w)[3], V (&u)[4]) {
    const V ends = w[0] + w[2];
    u[0] = w[0];
    u[1] = 0.5f * (ends + w[1]);
    u[2] = 0.5f * (ends - w[1]);
    u[3] = w[2];
  }
};

// G' u
struct PlacesToTaps {
  static constexpr int kIn = 4, kOut = 3;
  template <typename V>
  static void apply(const V (&u)[4], V (&w)[3]) {
    const V middle = 0.5f * (u[1] + u[2]);
    w[0] = u[0] + middle;
    w[1] = 0.5f * (u[1] - u[2]);
    w[2] = middle + u[3];
  }
};

// As minimal_convolution.h wants it.
struct Stride1 {
  using Input = PixelsToPlaces;
  using Taps = TapsToPlaces;
  using Output = PlacesToPixels;
  using OutputGradient = GradientToPlaces;
  using TapsGradient = PlacesToTaps;
  static constexpr int kInputStep = 2;
  static constexpr Term kTerms[] = {{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {3, 3, 3}};
};

}  // namespace
}  // namespace fastgan
