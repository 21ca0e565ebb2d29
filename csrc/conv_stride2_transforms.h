// The schemes of conv_stride2 along one axis: F(2, 2) of the even pixels and taps, beside that of the odd
// ones.
#pragma once

#include "minimal_transform.h"

namespace fastgan {
namespace {

// Two pixels of y, from their sums: what each has alone, and what both have.
struct SumsToPair {
  static constexpr int kIn = 3, kOut = 2;
  template <typename V>
  static void apply(const V (&m)[3], V (&y)[2]) {
    y[0] = m[0] + m[1];
    y[1] = m[1] + m[2];
  }
};

// The transpose of that.
struct PairToSums {
  static constexpr int kIn = 2, kOut = 3;
  template <typename V>
  static void apply(const V (&dy)[2], V (&m)[3]) {
    m[0] = dy[0];
    m[1] = dy[0] + dy[1];
    m[2] = dy[1];
  }
};

// --- 3 taps: the odd one meets one pixel for each of the pair ---

struct FivePixels {
  static constexpr int kIn = 5, kOut = 5;
  template <typename V>
  static void apply(const V (&x)[5], V (&v)[5]) {
    v[0] = x[0] - x[2];
    v[1] = x[1];
    v[2] = x[2];
    v[3] = x[3];
    v[4] = x[4] - x[2];
  }
};

struct ThreeTaps {
  static constexpr int kIn = 3, kOut = 4;
  template <typename V>
  static void apply(const V (&w)[3], V (&u)[4]) {
    u[0] = w[0];
    u[1] = w[1];
    u[2] = w[0] + w[2];
    u[3] = w[2];
  }
};

struct ThreeTapsGradient {
  static constexpr int kIn = 4, kOut = 3;
  template <typename V>
  static void apply(const V (&u)[4], V (&w)[3]) {
    w[0] = u[0] + u[2];
    w[1] = u[1];
    w[2] = u[2] + u[3];
  }
};

struct Stride2Of3 {
  using Input = FivePixels;
  using Taps = ThreeTaps;
  using Output = SumsToPair;
  using OutputGradient = PairToSums;
  using TapsGradient = ThreeTapsGradient;
  static constexpr int kInputStep = 4;
  static constexpr Term kTerms[] = {{0, 0, 0}, {1, 1, 0}, {2, 2, 1}, {3, 1, 2}, {4, 3, 2}};
};

// The transpose, from three pixels of y to four of x. Where the padding is even, x_2i is the first of the
// four and y_i-1 of the three.
struct ThreeOfYEven {
  static constexpr int kIn = 3, kOut = 4;
  template <typename V>
  static void apply(const V (&y)[3], V (&v)[4]) {
    v[0] = y[0] - y[1];
    v[1] = y[1];
    v[2] = y[2] - y[1];
    v[3] = y[2];
  }
};

struct FourOfXEven {
  static constexpr int kIn = 5, kOut = 4;
  template <typename V>
  static void apply(const V (&m)[5], V (&x)[4]) {
    x[0] = m[0] + m[1];
    x[1] = m[2];
    x[2] = m[1] + m[3];
    x[3] = m[4];
  }
};

struct TransposedEvenOf3 {
  using Input = ThreeOfYEven;
  using Taps = ThreeTaps;
  using Output = FourOfXEven;
  static constexpr int kInputStep = 2, kBefore = 1;
  static constexpr Term kTerms[] = {{0, 3, 0}, {1, 2, 1}, {1, 1, 2}, {2, 0, 3}, {3, 1, 4}};
};

// Where it is odd, x_2i+1 and y_i.
struct ThreeOfYOdd {
  static constexpr int kIn = 3, kOut = 4;
  template <typename V>
  static void apply(const V (&y)[3], V (&v)[4]) {
    v[0] = y[0];
    v[1] = y[0] - y[1];
    v[2] = y[1];
    v[3] = y[2] - y[1];
  }
};

struct FourOfXOdd {
  static constexpr int kIn = 5, kOut = 4;
  template <typename V>
  static void apply(const V (&m)[5], V (&x)[4]) {
    x[0] = m[0];
    x[1] = m[1] + m[2];
    x[2] = m[3];
    x[3] = m[2] + m[4];
  }
};

struct TransposedOddOf3 {
  using Input = ThreeOfYOdd;
  using Taps = ThreeTaps;
  using Output = FourOfXOdd;
  static constexpr int kInputStep = 2, kBefore = 0;
  static constexpr Term kTerms[] = {{0, 1, 0}, {1, 3, 1}, {2, 2, 2}, {2, 1, 3}, {3, 0, 4}};
};

// --- 4 taps: even and odd ones alike ---

struct SixPixels {
  static constexpr int kIn = 6, kOut = 6;
  template <typename V>
  static void apply(const V (&x)[6], V (&v)[6]) {
    v[0] = x[0] - x[2];
    v[1] = x[1] - x[3];
    v[2] = x[2];
    v[3] = x[3];
    v[4] = x[4] - x[2];
    v[5] = x[5] - x[3];
  }
};

struct FourTaps {
  static constexpr int kIn = 4, kOut = 6;
  template <typename V>
  static void apply(const V (&w)[4], V (&u)[6]) {
    u[0] = w[0];
    u[1] = w[1];
    u[2] = w[0] + w[2];
    u[3] = w[1] + w[3];
    u[4] = w[2];
    u[5] = w[3];
  }
};

struct FourTapsGradient {
  static constexpr int kIn = 6, kOut = 4;
  template <typename V>
  static void apply(const V (&u)[6], V (&w)[4]) {
    w[0] = u[0] + u[2];
    w[1] = u[1] + u[3];
    w[2] = u[2] + u[4];
    w[3] = u[3] + u[5];
  }
};

struct Stride2Of4 {
  using Input = SixPixels;
  using Taps = FourTaps;
  using Output = SumsToPair;
  using OutputGradient = PairToSums;
  using TapsGradient = FourTapsGradient;
  static constexpr int kInputStep = 4;
  static constexpr Term kTerms[] = {{0, 0, 0}, {1, 1, 0}, {2, 2, 1}, {3, 3, 1}, {4, 4, 2}, {5, 5, 2}};
};

// The transpose: x_2i and y_i-1 are the first ones where the padding is even,
struct ThreeOfY {
  static constexpr int kIn = 3, kOut = 3;
  template <typename V>
  static void apply(const V (&y)[3], V (&v)[3]) {
    v[0] = y[0] - y[1];
    v[1] = y[1];
    v[2] = y[2] - y[1];
  }
};

struct FourOfXEvenOf4 {
  static constexpr int kIn = 6, kOut = 4;
  template <typename V>
  static void apply(const V (&m)[6], V (&x)[4]) {
    x[0] = m[0] + m[1];
    x[1] = m[2] + m[3];
    x[2] = m[1] + m[4];
    x[3] = m[3] + m[5];
  }
};

struct TransposedEvenOf4 {
  using Input = ThreeOfY;
  using Taps = FourTaps;
  using Output = FourOfXEvenOf4;
  static constexpr int kInputStep = 2, kBefore = 1;
  static constexpr Term kTerms[] = {{0, 4, 0}, {1, 2, 1}, {0, 5, 2}, {1, 3, 3}, {2, 0, 4}, {2, 1, 5}};
};

// x_2i+1 and y_i-1 where it is odd.
struct FourOfY {
  static constexpr int kIn = 4, kOut = 5;
  template <typename V>
  static void apply(const V (&y)[4], V (&v)[5]) {
    v[0] = y[0] - y[1];
    v[1] = y[1];
    v[2] = y[2] - y[1];
    v[3] = y[2];
    v[4] = y[3] - y[2];
  }
};

struct FourOfXOddOf4 {
  static constexpr int kIn = 6, kOut = 4;
  template <typename V>
  static void apply(const V (&m)[6], V (&x)[4]) {
    x[0] = m[0] + m[1];
    x[1] = m[3] - m[2];
    x[2] = m[1] + m[4];
    x[3] = m[3] + m[5];
  }
};

struct TransposedOddOf4 {
  using Input = FourOfY;
  using Taps = FourTaps;
  using Output = FourOfXOddOf4;
  static constexpr int kInputStep = 2, kBefore = 1;
  static constexpr Term kTerms[] = {{0, 5, 0}, {1, 3, 1}, {2, 4, 2}, {3, 2, 3}, {2, 1, 4}, {4, 0, 5}};
};

}  // namespace
}  // namespace fastgan
