"""leaky ReLU and other piecewise linear functions whose second derivative is no gradient at all.

Their slope is locally constant. PyTorch gives their double backward a gradient to the input all the same, a tensor of
zeros, which a gradient penalty then carries through a whole backward pass of the network below. Here it is None.
Values and derivatives, at the kinks too (docs/kinks.md), are those of PyTorch's own kernels, which do the arithmetic.
torch.clamp and torch.where have no such zeros; `bias_act` has none either, but alone, without bias, gain or clamp to
add, it is no faster than PyTorch's leaky ReLU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops._common.autocast import autocasts
from fastgan.ops._common.wanted import differentiated, wanted

aten = torch.ops.aten


@dataclass(frozen=True)
class Piecewise:
    """A piecewise linear function.

    Attributes:
        f: (x, *constants) -> y.
        slope: (dy, s, *constants) -> dx, linear in dy, for the saved tensor s.
        saves: whether s is "x" or "y".
        in_place: f that overwrites x, where s is y.
    """

    f: Callable[..., Tensor]
    slope: Callable[..., Tensor]
    saves: str
    in_place: Callable[..., Tensor] | None = None


# Saves what PyTorch's saves: a network may change the result in place where PyTorch allows it.
LEAKY_RELU = Piecewise(
    aten.leaky_relu.default, lambda dy, x, slope: aten.leaky_relu_backward.default(dy, x, slope, False), "x"
)
LEAKY_RELU_IN_PLACE = Piecewise(  # not for a negative slope: the sign of y would not tell that of x
    aten.leaky_relu.default, lambda dy, y, slope: aten.leaky_relu_backward.default(dy, y, slope, True), "y",
    aten.leaky_relu_.default,
)  # fmt: skip
RELU = Piecewise(
    aten.relu.default, lambda dy, y: aten.threshold_backward.default(dy, y, 0), "y", aten.relu_.default
)  # fmt: skip
HARDTANH = Piecewise(aten.hardtanh.default, aten.hardtanh_backward.default, "x")
ABS = Piecewise(aten.abs.default, lambda dy, x: dy * x.sgn(), "x")


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:  # like input
    """`torch.nn.functional.leaky_relu`: x where x > 0, else negative_slope x; its slope at 0 is negative_slope."""
    if not _takes(input) or (inplace and negative_slope < 0):
        return F.leaky_relu(input, negative_slope, inplace)
    return _apply(input, LEAKY_RELU_IN_PLACE if inplace else LEAKY_RELU, inplace, float(negative_slope))


def relu(input: Tensor, inplace: bool = False) -> Tensor:  # like input
    """`torch.nn.functional.relu`: x where x > 0, else 0; its slope at 0 is 0."""
    return _apply(input, RELU, inplace) if _takes(input) else F.relu(input, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.hardtanh`: x between the bounds, its slope 0 at them and outside."""
    if not _takes(input) or inplace or min_val > max_val:
        return F.hardtanh(input, min_val, max_val, inplace)
    return _apply(input, HARDTANH, False, float(min_val), float(max_val))


def relu6(input: Tensor, inplace: bool = False) -> Tensor:  # like input
    """`torch.nn.functional.relu6`: hardtanh between 0 and 6."""
    return F.relu6(input, inplace) if inplace else hardtanh(input, 0.0, 6.0)


def abs(input: Tensor) -> Tensor:  # like input
    """`torch.abs`; its slope at 0 is 0."""
    return _apply(input, ABS, False) if _takes(input) else torch.abs(input)


def prelu(input: Tensor, weight: Tensor) -> Tensor:  # like input
    """`torch.nn.functional.prelu`: x where x > 0, else weight x, the weight one number or one for each channel."""
    channels = input.shape[1] if input.ndim > 1 else 1
    if (
        not (_takes(input) or _takes(weight))
        or input.dtype != weight.dtype
        or autocasts(input.device.type)  # which casts it
        or weight.ndim > 1
        or weight.numel() not in (1, channels)
    ):
        return torch.prelu(input, weight)
    shape = [1] * input.ndim
    if input.ndim > 1:
        shape[1] = weight.numel()
    return _PReLU.apply(input, weight.reshape(shape))


def _leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    return leaky_relu(input, negative_slope, inplace=True)


def _relu_(input: Tensor) -> Tensor:
    return relu(input, inplace=True)


BY_TORCH_FUNCTION: dict[Callable[..., Tensor], Callable[..., Tensor]] = {
    F.leaky_relu: leaky_relu,
    F.leaky_relu_: _leaky_relu_,
    F.relu: relu,
    torch.relu: relu,
    torch.Tensor.relu: relu,
    torch.relu_: _relu_,
    torch.Tensor.relu_: _relu_,
    F.hardtanh: hardtanh,
    F.relu6: relu6,
    torch.abs: abs,
    torch.absolute: abs,
    torch.Tensor.abs: abs,
    torch.Tensor.absolute: abs,
    torch.Tensor.__abs__: abs,
    torch.prelu: prelu,
    torch.Tensor.prelu: prelu,
}
"""PyTorch's function -> the one here that takes the same arguments; F.prelu and torch.prelu are one object."""


def _takes(x: Tensor) -> bool:
    """Whether the Functions below are for this call; any other is PyTorch's own."""
    return x.is_floating_point() and x.layout == torch.strided and differentiated(x)


def _apply(x: Tensor, function: Piecewise, inplace: bool, *constants: float) -> Tensor:
    return _Piecewise.apply(x, function, inplace, *constants)


class _Piecewise(torch.autograd.Function):
    """y = f(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Piecewise, inplace: bool, *constants: float) -> Tensor:
        if inplace:
            assert function.in_place is not None
            y = function.in_place(x, *constants)
            ctx.mark_dirty(x)
        else:
            y = function.f(x, *constants)
        ctx.save_for_backward(x if function.saves == "x" else y)
        ctx.function, ctx.constants = function, constants
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        (s,) = ctx.saved_tensors
        gradient = None if dy is None else _slope(dy, s, ctx.function, ctx.constants)
        return gradient, None, None, *(None for _ in ctx.constants)


class _Slope(torch.autograd.Function):
    """dx, as a function of dy alone; s is detached."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, s: Tensor, function: Piecewise, constants: tuple[float, ...]) -> Tensor:
        ctx.save_for_backward(s)
        ctx.function, ctx.constants = function, constants
        ctx.set_materialize_grads(False)
        return function.slope(dy, s, *constants)

    @staticmethod
    def backward(ctx: Any, u: Tensor | None) -> tuple[Tensor | None, ...]:
        (s,) = ctx.saved_tensors
        return None if u is None else _slope(u, s, ctx.function, ctx.constants), None, None, None


def _slope(dy: Tensor, s: Tensor, function: Piecewise, constants: tuple[float, ...]) -> Tensor:
    # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dx.
    if torch.is_grad_enabled():
        return _Slope.apply(dy, s.detach(), function, constants)
    return function.slope(dy, s, *constants)


class _PReLU(torch.autograd.Function):
    """y = x where x > 0, else w x. Unlike the others it is bilinear where x < 0: dw has a derivative to x, dx none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.set_materialize_grads(False)
        return aten._prelu_kernel.default(x, w)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return None, None
        x, w = ctx.saved_tensors
        needs = wanted(ctx, 0), wanted(ctx, 1)
        if torch.is_grad_enabled():  # only with create_graph=True
            return _PReLUGrad.apply(dy, x, w, needs)
        return _prelu_grad(dy, x, w, needs)


def _prelu_grad(dy: Tensor, x: Tensor, w: Tensor, needs: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
    dx, dw = aten._prelu_kernel_backward.default(dy, x, w)
    return dx if needs[0] else None, dw.sum_to_size(w.shape) if needs[1] else None


class _PReLUGrad(torch.autograd.Function):
    """dx and dw as functions of dy, x and w."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, w: Tensor, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.save_for_backward(dy, x, w)
        ctx.set_materialize_grads(False)
        return _prelu_grad(dy, x, w, needs)

    @staticmethod
    def backward(ctx: Any, u: Tensor | None, q: Tensor | None) -> tuple[Tensor | None, ...]:
        """In torch operations, which differentiate further.

        PyTorch takes 0 for negative in the first derivative and for positive in the second; so does this.
        """
        dy, x, w = ctx.saved_tensors
        positive = x >= 0
        grad_dy = grad_x = grad_w = None
        if u is not None:
            grad_dy = torch.where(positive, u, w * u)
            grad_w = torch.where(positive, 0, dy * u).sum_to_size(w.shape) if ctx.needs_input_grad[2] else None
        if q is not None:
            of_q = torch.where(positive, 0, q * x)
            grad_dy = of_q if grad_dy is None else grad_dy + of_q
            grad_x = torch.where(positive, 0, q * dy) if ctx.needs_input_grad[1] else None
        return grad_dy, grad_x, grad_w, None
