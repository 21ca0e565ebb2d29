// From a dtype code to the types of the elements and of the arithmetic.
#pragma once

#include "common.h"
#include "element.h"

#define FASTGAN_DTYPE_CASE(DTYPE, RUN, E, T) \
  case DType::DTYPE:                         \
    RUN(E, T);                               \
    return nullptr;

// The body of a function that returns an Error: RUN(E, T), a macro, for the types of `dtype`.
#define FASTGAN_DTYPE_SWITCH(dtype, op, RUN)           \
  switch (dtype) {                                     \
    FASTGAN_DTYPE_CASE(float32, RUN, float, float)     \
    FASTGAN_DTYPE_CASE(float64, RUN, double, double)   \
    FASTGAN_DTYPE_CASE(float16, RUN, float16, float)   \
    FASTGAN_DTYPE_CASE(bfloat16, RUN, bfloat16, float) \
  }                                                    \
  return op ": unknown dtype code";
