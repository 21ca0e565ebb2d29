// exp, tanh, sigmoid and softplus without branches or library calls, so that loops over float vectorise.
//
// All are built on expm1 of a non-positive argument, which cannot overflow: with x = n ln 2 + r, |r| <=
// ln(2)/2, expm1(x) = 2^n expm1(r) + (2^n - 1). The float versions are within 3 units in the last place;
// double, which serves gradient checks rather than training, calls the C library.
#pragma once

#include <cmath>

#include "element.h"

namespace fastgan {
namespace {

struct ReducedExp {
  float power;  // 2^n
  float expm1;  // expm1(r)
};

inline ReducedExp reduce(float x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  const float shifted = x * 1.44269504088896341f + magic;
  const float n = shifted - magic;
  float r = x - n * 0.693145751953125f;  // ln 2 in two parts: the first has zeros in its low bits
  r = r - n * 1.42860682030941723212e-6f;
  // Taylor series of (exp(r) - 1 - r) / r^2: the next term is below 2^-27 relative to expm1(r).
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  const int32_t exponent = bit_cast<int32_t>(shifted) - bit_cast<int32_t>(magic);
  return {bit_cast<float>((exponent + 127) << 23), p * r * r + r};
}

// exp(x) for x <= 0; results below the smallest normal number are zero.
inline float exp_nonpositive(float x) {
  const float smallest = -87.0f;
  const ReducedExp e = reduce(x < smallest ? smallest : x);
  const float value = e.power * e.expm1 + e.power;
  return x < smallest ? 0.0f : value;
}
inline double exp_nonpositive(double x) { return std::exp(x); }

// expm1(x) for x <= 0.
inline float expm1_nonpositive(float x) {
  const float smallest = -87.0f;
  const ReducedExp e = reduce(x < smallest ? smallest : x);
  return e.power * e.expm1 + (e.power - 1.0f);
}
inline double expm1_nonpositive(double x) { return std::expm1(x); }

// log1p(u) for 0 <= u <= 1, as 2 atanh(w) with w = u / (2 + u) <= 1/3.
inline float log1p_unit(float u) {
  const float w = u / (2.0f + u);
  const float w2 = w * w;
  float p = 1.0f / 17.0f;
  p = p * w2 + 1.0f / 15.0f;
  p = p * w2 + 1.0f / 13.0f;
  p = p * w2 + 1.0f / 11.0f;
  p = p * w2 + 1.0f / 9.0f;
  p = p * w2 + 1.0f / 7.0f;
  p = p * w2 + 1.0f / 5.0f;
  p = p * w2 + 1.0f / 3.0f;
  return 2.0f * (w + w * w2 * p);
}
inline double log1p_unit(double u) { return std::log1p(u); }

inline float absolute(float x) { return bit_cast<float>(bit_cast<uint32_t>(x) & 0x7fffffffu); }
inline double absolute(double x) { return std::fabs(x); }
inline float copy_sign(float magnitude, float sign) {
  return bit_cast<float>((bit_cast<uint32_t>(magnitude) & 0x7fffffffu) |
                         (bit_cast<uint32_t>(sign) & 0x80000000u));
}
inline double copy_sign(double magnitude, double sign) { return std::copysign(magnitude, sign); }

// Below 0.625 an odd polynomial (Cephes' tanhf), above it 1 - 2 / (exp(2|x|) + 1), which loses nothing
// near 1.
inline float tanh_(float x) {
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near = p * z * x + x;
  const float e = exp_nonpositive(-2.0f * absolute(x));
  const float far = copy_sign(1.0f - 2.0f * e / (1.0f + e), x);
  return absolute(x) < 0.625f ? near : far;
}
inline double tanh_(double x) { return std::tanh(x); }

// sigmoid(x) and sigmoid(-x), each accurate where it is tiny.
template <typename T>
struct Sigmoids {
  T of_x, of_minus_x;
};

template <typename T>
inline Sigmoids<T> sigmoids(T x) {
  const T e = exp_nonpositive(-absolute(x));
  const T larger = T(1) / (T(1) + e), smaller = e * larger;
  return {x < T(0) ? smaller : larger, x < T(0) ? larger : smaller};
}

template <typename T>
inline T sigmoid(T x) {
  return sigmoids(x).of_x;
}

template <typename T>
inline T softplus(T x) {
  const T positive = x < T(0) ? T(0) : x;
  return positive + log1p_unit(exp_nonpositive(-absolute(x)));
}

}  // namespace
}  // namespace fastgan
