"""Differentiable functions over the compiled kernels, one file per op."""

from fastgan.ops.activation_mask import ActivationMask
from fastgan.ops.bias_act import bias_act
from fastgan.ops.frozen_bias_act import (
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
from fastgan.ops.spectral_norm import spectral_norm, spectral_sigma

__all__ = [
    "ActivationMask",
    "bias_act",
    "bias_act_with_mask",
    "bias_act_with_mask_",
    "frozen_bias_act",
    "frozen_bias_act_",
    "frozen_bias_act_grad",
    "gradient_norm_penalty",
    "interpolate",
    "interpolation_weights",
    "minibatch_discrimination",
    "minibatch_stddev",
    "penalised_input",
    "spectral_norm",
    "spectral_sigma",
]
