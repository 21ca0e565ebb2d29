// Shared by the files that make up the Python module fastgan._C, one for each op.
//
// Tensors cross as integers (data_ptr), so that nothing here knows of torch. The GIL is released while a
// kernel runs.

#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>

#include "common.h"
#include "isa.h"

namespace fastgan::bindings {

namespace py = pybind11;

using Address = uintptr_t;  // of a tensor's first element, or of a CUDA stream; 0 where there is none
using release_gil = py::call_guard<py::gil_scoped_release>;

inline void* at(Address address) { return reinterpret_cast<void*>(address); }

inline void check(Error error) {
  if (error) throw std::runtime_error(error);
}

// Each adds an op's functions to the module.
void bind_attention(py::module_& module);
void bind_bias_act(py::module_& module);
void bind_conv3x3(py::module_& module);
void bind_conv_stride2(py::module_& module);
void bind_frozen_bias_act(py::module_& module);
void bind_gradient_norm_penalty(py::module_& module);
void bind_interpolate(py::module_& module);
void bind_minibatch_discrimination(py::module_& module);
void bind_minibatch_stddev(py::module_& module);
void bind_scaled_bias_act(py::module_& module);
void bind_spectral_norm(py::module_& module);
void bind_upfirdn2d(py::module_& module);

}  // namespace fastgan::bindings
