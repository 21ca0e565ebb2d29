// What every kernel in csrc/ shares: the element types and the way an error is returned.
//
// A kernel is a plain function over pointers, sizes and (on the GPU) a stream. It knows neither torch nor
// pybind11, so that it compiles in seconds and that no torch upgrade can break its symbols.
#pragma once

#include <cstdint>

namespace fastgan {

enum class DType : int { float32 = 0, float64 = 1, float16 = 2, bfloat16 = 3 };

// nullptr on success, otherwise a sentence with static storage that csrc/bindings/ raise as RuntimeError.
using Error = const char*;

}  // namespace fastgan
