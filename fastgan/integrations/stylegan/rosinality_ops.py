"""The package `op` of rosinality's stylegan2-pytorch by fastgan's ops, with its names, order and defaults."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.integrations.stylegan.fallback import Fallback, kind
from fastgan.integrations.stylegan.nvidia_ops import make_conv2d, make_conv_transpose2d


def make_fused_leaky_relu(fallback: Fallback) -> Callable[..., Tensor]:
    def fused_leaky_relu(
        input: Tensor, bias: Tensor | None = None, negative_slope: float = 0.2, scale: float = 2**0.5
    ) -> Tensor:
        declined = _declined(input, bias, negative_slope)
        if declined:
            return fallback(*declined)(input, bias, negative_slope, scale)
        return ops.bias_act(input, bias, 1, "lrelu", negative_slope, scale)

    return fused_leaky_relu


def make_forward(fallback: Fallback) -> Callable[..., Tensor]:
    """The forward pass of a FusedLeakyReLU that exists: its instances and subclasses, wherever they are, get it too."""

    def forward(self: Any, input: Tensor) -> Tensor:
        declined = _declined(input, self.bias, self.negative_slope)
        if declined:
            return fallback(*declined)(self, input)
        return ops.bias_act(input, self.bias, 1, "lrelu", self.negative_slope, self.scale)

    return forward


def _declined(input: object, bias: Tensor | None, negative_slope: float) -> tuple[str, object, str] | None:
    """(argument, its value, the expected) that fastgan's op does not take; None if it takes all."""
    if not isinstance(input, Tensor) or not input.is_floating_point():
        return "input", kind(input), "floating-point tensors"
    if bias is not None and bias.ndim != 1:
        return "bias", f"of shape {list(bias.shape)}", "[channels]"
    if negative_slope < 0:
        return "negative_slope", negative_slope, "slopes >= 0"
    return None


def make_upfirdn2d(fallback: Fallback) -> Callable[..., Tensor]:
    def upfirdn2d(
        input: Tensor,
        kernel: Tensor,
        up: int | Sequence[int] = 1,
        down: int | Sequence[int] = 1,
        pad: Sequence[int] = (0, 0),
    ) -> Tensor:
        if not isinstance(input, Tensor) or not input.is_floating_point():
            return fallback("input", kind(input), "floating-point tensors")(input, kernel, up, down, pad)
        if kernel.requires_grad:
            original = fallback("kernel", "a tensor that requires a gradient", "constant kernels")
            return original(input, kernel, up, down, pad)
        f = _float32(kernel)
        if f is None:
            original = fallback("kernel", f"{kernel.dtype} with other values", "the values of torch.float32")
            return original(input, kernel, up, down, pad)
        sides = (pad[0], pad[1], pad[0], pad[1]) if len(pad) == 2 else tuple(pad)
        return ops.upfirdn2d(input, f, up, down, sides)

    return upfirdn2d


def _float32(kernel: Tensor) -> Tensor | None:
    """The kernel as our op wants it, where that changes no value: a model moved to another dtype takes it along."""
    f = kernel.float()
    exact = torch.finfo(kernel.dtype).bits <= 32 or torch.equal(f.to(kernel.dtype), kernel)
    return f if exact else None


class FusedLeakyReLU(nn.Module):
    """A learned bias, a leaky ReLU and a gain: rosinality's layer, where its own module cannot be imported.

    Args:
        channel: features of the input along dimension 1.
        bias: whether there is one.
        negative_slope, scale: of the activation, and its gain.

    Shape: [B, channel, ...] -> the same
    """

    def __init__(self, channel: int, bias: bool = True, negative_slope: float = 0.2, scale: float = 2**0.5) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channel)) if bias else None
        self.negative_slope, self.scale = negative_slope, scale

    forward = make_forward(Fallback("FusedLeakyReLU", None))


def modules(op: str) -> dict[str, dict[str, Callable[[Fallback], Callable[..., Any]] | str]]:
    """Module -> name in it -> what makes its replacement, of a package `op` by any name."""
    return {
        f"{op}.fused_act": {"fused_leaky_relu": make_fused_leaky_relu, "FusedLeakyReLU.forward": make_forward},
        f"{op}.upfirdn2d": {"upfirdn2d": make_upfirdn2d},
        f"{op}.conv2d_gradfix": {"conv2d": make_conv2d, "conv_transpose2d": make_conv_transpose2d},
    }


def provided(op: str) -> dict[str, dict[str, Any]]:
    """Module -> all that is in it, for those whose import would compile."""
    activation, resampling = f"{op}.fused_act", f"{op}.upfirdn2d"
    return {
        activation: {
            "FusedLeakyReLU": FusedLeakyReLU,
            "fused_leaky_relu": make_fused_leaky_relu(Fallback(f"{activation}.fused_leaky_relu", None)),
        },
        resampling: {"upfirdn2d": make_upfirdn2d(Fallback(f"{resampling}.upfirdn2d", None))},
    }
