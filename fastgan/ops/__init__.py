"""Differentiable functions over the compiled kernels, one file per op."""

from fastgan.ops.bias_act import bias_act
from fastgan.ops.gradient_norm_penalty import gradient_norm_penalty, penalised_input
from fastgan.ops.interpolate import interpolate, interpolation_weights
from fastgan.ops.minibatch_discrimination import minibatch_discrimination

__all__ = [
    "bias_act",
    "gradient_norm_penalty",
    "interpolate",
    "interpolation_weights",
    "minibatch_discrimination",
    "penalised_input",
]
