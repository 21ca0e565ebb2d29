// Run-time choice of instruction set for the CPU kernels.
//
// setup.py compiles every CPU kernel file once per instruction set, with FASTGAN_ISA naming the namespace its
// functions land in; FASTGAN_EACH_ISA declares them all and FASTGAN_CPU(function) is the one that the
// processor at hand can run. The default flags stay those of any processor of the family, so that a wheel
// runs anywhere.
#pragma once

#if defined(__x86_64__) || defined(_M_X64)
#define FASTGAN_EACH_ISA(DO) DO(baseline) DO(avx2) DO(avx512)
#define FASTGAN_CPU(FUNCTION)                                                   \
  (::fastgan::isa() == ::fastgan::Isa::avx512                                   \
       ? &::fastgan::avx512::FUNCTION                                           \
       : (::fastgan::isa() == ::fastgan::Isa::avx2 ? &::fastgan::avx2::FUNCTION \
                                                   : &::fastgan::baseline::FUNCTION))
#else
#define FASTGAN_EACH_ISA(DO) DO(baseline)
#define FASTGAN_CPU(FUNCTION) (&::fastgan::baseline::FUNCTION)
#endif

namespace fastgan {

enum class Isa { baseline, avx2, avx512 };

Isa isa();  // chosen once; FASTGAN_ISA=baseline|avx2|avx512 in the environment lowers it (for tests)
const char* isa_name();  // "baseline", "avx2" or "avx512"

}  // namespace fastgan
