// CUDA's vector and 16-bit floating-point types, for the host.
#pragma once

#include <stdint.h>
#include <string.h>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define SIMT_VECTORS(ELEMENT, NAME)                                                                \
  struct alignas(2 * sizeof(ELEMENT)) NAME##2 { ELEMENT x, y; };                                   \
  struct NAME##3 { ELEMENT x, y, z; };                                                             \
  struct alignas(sizeof(ELEMENT) == 8 ? 16 : 4 * sizeof(ELEMENT)) NAME##4 { ELEMENT x, y, z, w; }; \
  inline NAME##2 make_##NAME##2(ELEMENT x, ELEMENT y) { return {x, y}; }                           \
  inline NAME##3 make_##NAME##3(ELEMENT x, ELEMENT y, ELEMENT z) { return {x, y, z}; }             \
  inline NAME##4 make_##NAME##4(ELEMENT x, ELEMENT y, ELEMENT z, ELEMENT w) { return {x, y, z, w}; }
SIMT_VECTORS(int, int)
SIMT_VECTORS(unsigned, uint)
SIMT_VECTORS(float, float)
SIMT_VECTORS(double, double)
#undef SIMT_VECTORS

namespace simt {

template <typename To, typename From>
inline To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace simt

struct __half {
  uint16_t bits;
};

struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __half2float(__half h) {
  const uint32_t sign = (h.bits & 0x8000u) << 16;
  const uint32_t exponent = (h.bits >> 10) & 31u;
  const uint32_t mantissa = h.bits & 1023u;
  if (exponent == 31) return simt::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return simt::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

inline __half __float2half_rn(float x) {
  const uint32_t bits = simt::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {0x7fff};                                  // NaN
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to infinity
  if (magnitude < 0x38800000u) {                                                 // below 2^-14: subnormal
    // Adding 0.5 leaves the multiples of 2^-24 in the mantissa, rounded to nearest even by the addition.
    const float shifted = simt::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (simt::bit_cast<uint32_t>(shifted) - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}
inline __half __float2half(float x) { return __float2half_rn(x); }

inline float __bfloat162float(__nv_bfloat16 b) {
  return simt::bit_cast<float>(static_cast<uint32_t>(b.bits) << 16);
}

inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const uint32_t bits = simt::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};  // NaN
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }
