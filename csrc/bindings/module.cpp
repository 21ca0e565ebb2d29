// The Python module fastgan._C: plain functions over addresses and sizes.

#include "bindings.h"

using namespace fastgan::bindings;

PYBIND11_MODULE(_C, module) {
  module.doc() = "fastgan's compiled kernels; call them through fastgan.ops.";
  module.attr("has_cuda") = FASTGAN_WITH_CUDA != 0;
  module.attr("instruction_set") = fastgan::isa_name();
  bind_attention(module);
  bind_bias_act(module);
  bind_conv3x3(module);
  bind_conv_stride2(module);
  bind_frozen_bias_act(module);
  bind_gradient_norm_penalty(module);
  bind_interpolate(module);
  bind_minibatch_discrimination(module);
  bind_minibatch_stddev(module);
  bind_scaled_bias_act(module);
  bind_spectral_norm(module);
  bind_upfirdn2d(module);
}
