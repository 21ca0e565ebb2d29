// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a counter-based
// generator: the i-th number is a function of seed and i alone, so every backend and every order of execution
// draws the same.
#pragma once

#include <cstdint>

namespace fastgan {
namespace {

// The first word for counter (i, 0, 0, 0), i of 64 bits, and the two halves of the seed as key.
inline uint32_t philox(uint64_t seed, uint64_t i) {
  uint32_t c0 = uint32_t(i), c1 = uint32_t(i >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c0, b = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(b >> 32) ^ c1 ^ k0;
    c2 = uint32_t(a >> 32) ^ c3 ^ k1;
    c1 = uint32_t(b);
    c3 = uint32_t(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c0;
}

// The i-th number of U[0, 1), bit for bit Triton's tl.rand(seed, i). Not inlined: the compiler could fuse the
// last multiplication with the caller's arithmetic, which would then see an unrounded number.
__attribute__((noinline)) float philox_uniform(uint64_t seed, uint64_t i) {
  const int32_t word = int32_t(philox(seed, i));
  // The largest scale with which 2^31 - 1, rounded to float32, stays below 1.
  return float(word < 0 ? -word - 1 : word) * 4.6566127342e-10f;
}

}  // namespace
}  // namespace fastgan
