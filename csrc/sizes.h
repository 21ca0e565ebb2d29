// Arithmetic of sizes on the CPU. Not the standard library's: scratch.h says why.
#pragma once

#include <cstdint>

namespace fastgan {
namespace {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace
}  // namespace fastgan
