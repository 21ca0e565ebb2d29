// What upfirdn2d knows before it sees a pixel: whether the filter is an outer product, and which pixels and
// taps make an output.
#pragma once

#include <cmath>

#include "scratch.h"
#include "upfirdn2d.h"

namespace fastgan {
namespace {

inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
inline int64_t clamp(int64_t i, int64_t least, int64_t most) {
  return i < least ? least : (i > most ? most : i);
}
inline int64_t common_divisor(int64_t a, int64_t b) { return b == 0 ? a : common_divisor(b, a % b); }

// One direction: output o is the sum of g[tap(o) + up m] x[first(o) + m] over m below count(o).
struct Axis {
  int64_t in, out, up, down, origin, taps;
  int64_t phases;      // outputs o and o + phases have the same taps, ...
  int64_t stride;      // ... and pixels that are `stride` apart
  int64_t lo, hi;      // the pixels that any output reads: [lo, hi); outside of [0, in) they are zeros
  int64_t begin, end;  // those inside
  int64_t margin;      // zeros before them

  Axis(int64_t in, int64_t out, int64_t up, int64_t down, int64_t origin, int64_t taps)
      : in(in), out(out), up(up), down(down), origin(origin), taps(taps) {
    phases = up / common_divisor(up, down);
    stride = down / common_divisor(up, down);
    lo = first(0);
    hi = last(out - 1);
    begin = clamp(lo, 0, in);
    end = clamp(hi, begin, in);
    margin = begin < end ? begin - lo : 0;
  }

  // The smallest i with i up >= o down - origin. Neither this nor `last` ever falls with o.
  int64_t first(int64_t o) const { return -floor_div(origin - o * down, up); }
  int64_t last(int64_t o) const { return first(o) + count(o); }
  int64_t tap(int64_t o) const { return first(o) * up - (o * down - origin); }
  int64_t count(int64_t o) const { return tap(o) < taps ? (taps - tap(o) + up - 1) / up : 0; }
  int64_t outputs(int64_t phase) const { return phase < out ? (out - phase + phases - 1) / phases : 0; }
};

// f [fh, fw] as an outer product u v', each element to `tolerance` relative to itself; false if it is none.
//
// The best fit in the sense of least squares, by alternating projections: two are enough, because what is
// left after one is of the order of the tolerance, and its square is nothing. Scaled so that the smallest
// element of u is a power of two, which leaves filters of integers over a power of two exact, and that no sum
// over u exceeds the largest pixel.
inline bool factor(const double* f, int64_t fh, int64_t fw, double tolerance, double* u, double* v) {
  double largest = 0;
  for (int64_t i = 0; i < fh; ++i) {
    double norm = 0;
    for (int64_t j = 0; j < fw; ++j) norm += f[i * fw + j] * f[i * fw + j];
    if (norm <= largest) continue;
    largest = norm;
    for (int64_t j = 0; j < fw; ++j) v[j] = f[i * fw + j];
  }
  if (!(largest > 0)) return false;
  for (int pass = 0; pass < 2; ++pass) {
    double square = 0, smallest = INFINITY, total = 0;
    for (int64_t j = 0; j < fw; ++j) square += v[j] * v[j];
    for (int64_t i = 0; i < fh; ++i) {
      u[i] = 0;
      for (int64_t j = 0; j < fw; ++j) u[i] += f[i * fw + j] * v[j];
      u[i] /= square;
      if (u[i] != 0 && std::fabs(u[i]) < smallest) smallest = std::fabs(u[i]);
    }
    for (int64_t i = 0; i < fh; ++i) {
      u[i] /= smallest;
      total += std::fabs(u[i]);
    }
    int exponent;
    std::frexp(total, &exponent);
    square = 0;
    for (int64_t i = 0; i < fh; ++i) {
      u[i] = std::ldexp(u[i], -exponent);
      square += u[i] * u[i];
    }
    for (int64_t j = 0; j < fw; ++j) {
      v[j] = 0;
      for (int64_t i = 0; i < fh; ++i) v[j] += f[i * fw + j] * u[i];
      v[j] /= square;
    }
  }
  for (int64_t i = 0; i < fh; ++i) {
    for (int64_t j = 0; j < fw; ++j) {
      const double element = f[i * fw + j];
      if (!(std::fabs(u[i] * v[j] - element) <= tolerance * std::fabs(element))) return false;
    }
  }
  return true;
}

// The filter as a correlation, its gain included: f [fh, fw], or u for the columns and v for the rows.
struct Filter {
  bool separable;
  Scratch<double> f, u, v;

  Filter(const float* given, const Upfirdn2dArgs& a) : f(a.fh * a.fw), u(a.fh), v(a.fw) {
    const int64_t n = a.separable ? a.fw : a.fh * a.fw;
    for (int64_t i = 0; i < n; ++i) f.data()[i] = given[a.flip ? i : n - 1 - i];
    if (a.separable) {
      separable = true;
      for (int64_t i = 0; i < n; ++i) u.data()[i] = v.data()[i] = f.data()[i];
    } else {
      // Elements that were computed in float32 are off by a few roundings of an outer product; where the
      // arithmetic is double, the factors must give f itself.
      const double tolerance = a.dtype == DType::float64 ? 0x1p-51 : 0x1p-22;
      separable = factor(f.data(), a.fh, a.fw, tolerance, u.data(), v.data());
    }
    for (int64_t j = 0; j < a.fw && separable; ++j) v.data()[j] *= a.gain;
    for (int64_t i = 0; i < n && !separable; ++i) f.data()[i] *= a.gain;
  }
};

// out[i] = sum over t of weight[t] x[offset[t] + i].
template <typename T>
struct Terms {
  const T* weight;
  const int64_t* offset;
  int64_t count;
};

// The terms of several phases.
template <typename T>
class Table {
 public:
  Table(int64_t phases, int64_t terms) : weights_(terms), offsets_(terms), at_(phases) {}

  void begin_phase() { at_.data()[phases_++] = {weights_.data() + used_, offsets_.data() + used_, 0}; }
  void add(double weight, int64_t offset) {
    weights_.data()[used_] = T(weight);
    offsets_.data()[used_++] = offset;
    ++at_.data()[phases_ - 1].count;
  }
  const Terms<T>& operator[](int64_t phase) const { return at_.data()[phase]; }

 private:
  Scratch<T> weights_;
  Scratch<int64_t> offsets_;
  Scratch<Terms<T>> at_;
  int64_t phases_ = 0, used_ = 0;
};

}  // namespace
}  // namespace fastgan
