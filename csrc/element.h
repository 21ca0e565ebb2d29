// Loading and storing the four element types as the type the arithmetic is done in.
//
// Branch-free bit manipulation, so that loops over float16 and bfloat16 vectorise on any instruction set.
// Everything is static: each instruction set compiles its own copy.
#pragma once

#include <cstdint>
#include <cstring>

namespace fastgan {
namespace {

template <typename To, typename From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

struct float16 {
  uint16_t bits;
};
struct bfloat16 {
  uint16_t bits;
};

// The type of the arithmetic: float for everything but double.
template <typename T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};

inline float load(const float* p) { return *p; }
inline double load(const double* p) { return *p; }
inline float load(const bfloat16* p) { return bit_cast<float>(uint32_t(p->bits) << 16); }
inline float load(const float16* p) {
  const uint32_t bits = p->bits;
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t magnitude = (bits & 0x7fffu) << 13;
  // Multiplying by 2^112 moves the exponent from float16's bias to float32's and normalises subnormals.
  const float scaled = bit_cast<float>(magnitude) * 0x1p112f;
  const uint32_t finite = bit_cast<uint32_t>(scaled);
  const uint32_t special = magnitude | 0x7f800000u;  // infinity or NaN
  return bit_cast<float>(sign | (magnitude >= (0x7c00u << 13) ? special : finite));
}

inline void store(float* p, float value) { *p = value; }
inline void store(double* p, double value) { *p = value; }
inline void store(bfloat16* p, float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties to even
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  p->bits = uint16_t(is_nan ? 0x7fc0u : rounded);
}
inline void store(float16* p, float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Below 2^-14 the result is subnormal: adding 0.5 lets the float32 adder round at 2^-24.
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  uint32_t result = magnitude < (113u << 23) ? subnormal : normal;
  result = magnitude >= 0x477ff000u ? 0x7c00u : result;  // 65520 and above round to infinity
  result = magnitude > 0x7f800000u ? 0x7e00u : result;   // NaN
  p->bits = uint16_t(sign | result);
}

}  // namespace
}  // namespace fastgan
