// Vector registers as wide as the instruction set has them, in GCC's and Clang's vector types: one source for
// SSE, AVX, AVX-512 and NEON.
#pragma once

#include "element.h"
#include "vector_math.h"

namespace fastgan {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct Bits;
template <>
struct Bits<float> {
  using type = int32_t;
};
template <>
struct Bits<double> {
  using type = int64_t;
};

template <typename T>
struct Simd {
  using Int = typename Bits<T>::type;
  typedef T Vec __attribute__((vector_size(kVectorBytes)));
  typedef Int IntVec __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / sizeof(T);
  static constexpr Int kSign = Int(1) << (8 * sizeof(T) - 1);

  static Vec load(const T* p) {
    Vec v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static void store(T* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
  static Vec absolute(Vec x) { return (Vec)((IntVec)x & ~kSign); }
  // w sign(d), with sign(0) = 0.
  static Vec times_sign(Vec w, Vec d) {
    return (Vec)(((IntVec)w ^ ((IntVec)d & kSign)) & (IntVec)(d != T(0)));
  }
  // The number of each lane.
  static IntVec lane() {
    IntVec v;
    for (int l = 0; l < kLanes; ++l) v[l] = l;
    return v;
  }
  // x where the comparison held, else 0.
  static Vec keep(Vec x, IntVec held) { return (Vec)((IntVec)x & held); }
  static Vec exp_nonpositive(Vec x) {
    alignas(64) T lanes[kLanes];
    std::memcpy(lanes, &x, sizeof(x));
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) lanes[l] = fastgan::exp_nonpositive(lanes[l]);
    return load(lanes);
  }
  static T sum(Vec x) {
    return halve<kVectorBytes>(x, [](auto a, auto b) { return a + b; });
  }
  // The larger of each pair of lanes; y where x is NaN.
  static Vec larger(Vec x, Vec y) { return x > y ? x : y; }
  // The largest lane.
  static T largest(Vec x) {
    return halve<kVectorBytes>(x, [](auto a, auto b) { return a > b ? a : b; });
  }

 private:
  // Combines the lanes of a vector, half with half: log2(lanes) dependent operations.
  template <int kBytes, typename V, typename Combine>
  static T halve(V x, const Combine& combine) {
    if constexpr (kBytes == 2 * sizeof(T)) {
      return combine(T(x[0]), T(x[1]));
    } else {
      typedef T Half __attribute__((vector_size(kBytes / 2)));
      Half low, high;
      std::memcpy(&low, &x, sizeof(low));
      std::memcpy(&high, reinterpret_cast<const char*>(&x) + sizeof(low), sizeof(high));
      return halve<kBytes / 2>(combine(low, high), combine);
    }
  }
};

}  // namespace
}  // namespace fastgan
