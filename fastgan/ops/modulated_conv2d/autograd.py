"""The layer of `styled_conv2d` as one Triton kernel, where it is a convolution of the size of its input.

Forward is one kernel. The first derivative is four: the gradient of what follows the convolution (`scaled_bias_act`,
whose three sums are the gradients of scale, noise strength and bias), the data gradient, which ends in the gradients of
x and of the styles, the input times the styles once more, and PyTorch's weight gradient. Higher derivatives
differentiate the same layer composed of `scaled_bias_act` and PyTorch's convolution.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.activations import Activated
from fastgan.ops._common.autocast import autocasts
from fastgan.ops._common.partial_gradients import partial_gradients
from fastgan.ops.convolution import conv2d
from fastgan.ops.modulated_conv2d import backends as operators
from fastgan.ops.scaled_bias_act import backends as scaled_operators
from fastgan.ops.scaled_bias_act.autograd import ScaledBiasAct, gradients_of_sums, noise_gradient
from fastgan.ops.scaled_bias_act.backends import Coefficients, ScaledBiasActConfig
from fastgan.ops.upfirdn2d.filter import Padding, parse_padding

BACKEND = "triton"
_IDENTITY = ScaledBiasActConfig("linear", 0.0, 1.0, None, BACKEND)


def unsupported(x: Tensor, weight: Tensor, up: int, down: int, padding: Padding) -> str | None:
    """Why the kernel is not for this call; None where it is."""
    kernel = tuple(weight.shape[2:])
    if (up, down) != (1, 1):
        return f"the triton kernel keeps the resolution, it has no up = {up}, down = {down}"
    if kernel not in ((1, 1), (3, 3)):
        return f"the triton kernel is for weights of 1x1 and 3x3, not {kernel[0]}x{kernel[1]}"
    if parse_padding("modulated_conv2d", padding) != (kernel[0] // 2,) * 4:
        return f"the triton kernel keeps the size of the image, with padding = {kernel[0] // 2}, not {padding}"
    if x.shape[2] * x.shape[3] * max(weight.shape[:2]) >= 2**30:
        return "the triton kernel counts the elements of a sample in 32 bits"
    return None


def fused(x: Tensor, weight: Tensor, styles: Tensor, coefficients: Coefficients, activation: Activated) -> Tensor:
    """The layer, of arguments that were checked; weight in the compute dtype, not flipped."""
    if autocasts(x.device.type) and x.dtype != torch.float64:  # as the convolution of the composed form does
        x = x.to(torch.get_autocast_dtype(x.device.type))
    weight = weight.to(x.dtype)
    tensors = (x, weight, styles, *coefficients)
    saves = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    return StyledConv2d.apply(*tensors, activation, saves)


def _composed(
    x: Tensor, weight: Tensor, styles: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None,
    bias: Tensor | None, activation: Activated,
) -> Tensor:  # fmt: skip
    modulated = ScaledBiasAct.apply(x, styles, None, None, None, _IDENTITY)
    z = conv2d(modulated, weight, padding=weight.shape[2] // 2)
    return ScaledBiasAct.apply(z, scale, noise, strength, bias, ScaledBiasActConfig(*activation, BACKEND))


class StyledConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, styles: Tensor, scale: Tensor, noise: Tensor | None,
        strength: Tensor | None, bias: Tensor | None, activation: Activated, saves: bool,
    ) -> Tensor:  # fmt: skip
        y, z = operators.modulated_conv2d(x, weight, styles, scale, noise, strength, bias, *activation, saves)
        ctx.save_for_backward(x, weight, styles, scale, noise, strength, bias, z)
        ctx.activation = activation
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 9
        if torch.is_grad_enabled():  # only with create_graph=True
            composed = partial(_composed, activation=ctx.activation)
            return *partial_gradients(composed, ctx.saved_tensors[:7], ctx.needs_input_grad, dy), None, None
        x, weight, styles, scale, noise, strength, bias, z = ctx.saved_tensors
        needs = ctx.needs_input_grad
        coefficients = Coefficients(scale, noise, strength, bias)
        activation: Activated = ctx.activation
        after = ScaledBiasActConfig(*activation, BACKEND)
        dz, sums = scaled_operators.scaled_bias_act_grad(dy, z, *coefficients, *after, False)
        dx = dstyles = None
        if needs[0] or needs[2]:
            dx, wide = operators.modulated_conv2d_data_grad(dz, weight, x, styles)
            dstyles = wide.to(styles.dtype)
        dscale, dstrength, db = gradients_of_sums(sums, scale, strength, bias, (needs[3], needs[5], needs[6]))
        return (
            dx if needs[0] else None,
            _weight_gradient(dz, x, weight, styles) if needs[1] else None,
            dstyles if needs[2] else None,
            dscale,
            noise_gradient(dy, z, coefficients, after) if needs[4] else None,
            dstrength,
            db,
            None,
            None,
        )


def _weight_gradient(dz: Tensor, x: Tensor, weight: Tensor, styles: Tensor) -> Tensor:
    modulated = scaled_operators.scaled_bias_act(x, styles, None, None, None, *_IDENTITY)
    half = weight.shape[2] // 2
    return torch.ops.aten.convolution_backward.default(
        dz, modulated, weight, None, (1, 1), (half, half), (1, 1), False, (0, 0), 1, [False, True, False]
    )[1]
