"""Differentiable functions over the compiled kernels.

A registered op is a folder, with the same files in each:

    <op>/__init__.py     the public function: its docstring, the checks of its arguments, the choice of a backend
    <op>/autograd.py     its derivatives, autograd functions over the operators
    <op>/reference.py    the same mathematics in plain PyTorch
    <op>/backends.py     the operators of torch.library: they allocate the outputs and call kernels
    <op>/cpu.py          the kernels' calls on the CPU, where there are others on the GPU (kernels/<op>.py)
    <op>/spec.py         the OpSpec: samples for the tests, shapes for the benchmarks

The compositions without kernels or an OpSpec of their own are `convolution` (a folder: it also has the operators and
derivatives of `conv3x3` and `conv_stride2`, which it takes wherever they pay), `conv2d_resample` and
`piecewise_linear`. `_common` holds the helpers that several ops share.

`fastgan.ops.<op>` is the function, as an attribute; its folder has the same name, so import what is in there by
`from fastgan.ops.<op>.reference import ...`, and never use the attribute as a module.
"""

from importlib import import_module

from fastgan.ops.attention import attention
from fastgan.ops.bias_act import bias_act
from fastgan.ops.conv2d_resample import conv2d_resample
from fastgan.ops.conv3x3 import conv3x3
from fastgan.ops.conv_stride2 import conv_stride2
from fastgan.ops.frozen_bias_act import (
    ActivationMask,
    bias_act_with_mask,
    bias_act_with_mask_,
    frozen_bias_act,
    frozen_bias_act_,
    frozen_bias_act_grad,
)
from fastgan.ops.gradient_norm_penalty import gradient_norm_penalty, penalised_input
from fastgan.ops.interpolate import interpolate, interpolation_weights
from fastgan.ops.minibatch_discrimination import minibatch_discrimination
from fastgan.ops.minibatch_stddev import minibatch_stddev
from fastgan.ops.modulated_conv2d import modulated_conv2d, styled_conv2d
from fastgan.ops.scaled_bias_act import scaled_bias_act
from fastgan.ops.spectral_norm import spectral_norm, spectral_sigma
from fastgan.ops.upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

__all__ = [
    "ActivationMask",
    "attention",
    "bias_act",
    "bias_act_with_mask",
    "bias_act_with_mask_",
    "conv2d_resample",
    "conv3x3",
    "conv_stride2",
    "downsample2d",
    "filter2d",
    "frozen_bias_act",
    "frozen_bias_act_",
    "frozen_bias_act_grad",
    "gradient_norm_penalty",
    "interpolate",
    "interpolation_weights",
    "minibatch_discrimination",
    "minibatch_stddev",
    "modulated_conv2d",
    "penalised_input",
    "scaled_bias_act",
    "setup_filter",
    "spectral_norm",
    "spectral_sigma",
    "styled_conv2d",
    "upfirdn2d",
    "upsample2d",
]

# Fills fastgan.registry.OPS.
for _op in (
    "attention",
    "bias_act",
    "conv3x3",
    "conv_stride2",
    "frozen_bias_act",
    "gradient_norm_penalty",
    "interpolate",
    "minibatch_discrimination",
    "minibatch_stddev",
    "modulated_conv2d",
    "scaled_bias_act",
    "spectral_norm",
    "upfirdn2d",
):
    import_module(f"fastgan.ops.{_op}.spec")
