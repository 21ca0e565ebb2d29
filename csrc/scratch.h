// Aligned scratch memory that is freed at the end of its scope.
//
// The standard containers are not used in kernel files: their functions are shared between object files, and
// the linker could keep a copy compiled for an instruction set that the processor lacks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace fastgan {
namespace {

template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(static_cast<T*>(std::aligned_alloc(64, bytes(count)))) {}
  Scratch(Scratch&& other) : data_(other.data_) { other.data_ = nullptr; }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return data_; }

 private:
  // aligned_alloc wants a multiple of the alignment.
  static size_t bytes(int64_t count) { return (size_t(count) * sizeof(T) + 64) / 64 * 64; }
  T* data_;
};

}  // namespace
}  // namespace fastgan
