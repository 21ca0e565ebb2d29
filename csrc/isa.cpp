#include "isa.h"

#include <cstdlib>
#include <cstring>

namespace fastgan {

static Isa detect() {
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_cpu_init();
  const char* wish = std::getenv("FASTGAN_ISA");
  const bool at_most_baseline = wish && std::strcmp(wish, "baseline") == 0;
  const bool at_most_avx2 = wish && std::strcmp(wish, "avx2") == 0;
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (at_most_baseline || !has_avx2) return Isa::baseline;
  return has_avx512 && !at_most_avx2 ? Isa::avx512 : Isa::avx2;
#else
  return Isa::baseline;
#endif
}

Isa isa() {
  static const Isa chosen = detect();
  return chosen;
}

const char* isa_name() {
  switch (isa()) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace fastgan
