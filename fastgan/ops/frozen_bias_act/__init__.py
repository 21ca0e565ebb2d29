"""frozen_bias_act: bias and activation with the activation's mask frozen at another input; and the masks themselves.

A network of linear layers and of relu or lrelu is affine near a point x. The same network with its masks frozen at x
is that affine map, and may be applied to another input u. With every bias scaled by a number s_i per sample it is what
the exact gradient of a loss with a gradient penalty needs. One bit per element is kept of x (mask.py).
"""

from typing import Any

import torch
from torch import Tensor

from fastgan.backends import select
from fastgan.ops._common.layout import by_sample, memory_order
from fastgan.ops.frozen_bias_act import backends as operators
from fastgan.ops.frozen_bias_act.autograd import FrozenBiasAct
from fastgan.ops.frozen_bias_act.backends import FrozenConfig
from fastgan.ops.frozen_bias_act.checks import check, check_frozen, refuse_autograd
from fastgan.ops.frozen_bias_act.mask import ActivationMask
from fastgan.ops.frozen_bias_act.reference import (
    bias_act_with_mask_reference,
    frozen_bias_act_grad_reference,
    frozen_bias_act_reference,
    slope_and_gain,
)


def bias_act_with_mask(
    x: Tensor,  # [..., channels, ...]
    b: Tensor | None = None,  # [channels]
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> tuple[Tensor, ActivationMask]:  # like x, and its mask
    """`bias_act` and the mask of its activation, without derivatives.

        y = clamp(gain * act(x + b), -clamp, clamp), bits (x + b > 0) and, with a clamp, not (|y| >= clamp)

    y is that of `bias_act` bit for bit. Nothing is differentiable: call it under `torch.no_grad()` where x or b
    requires a gradient. Zero and NaN are not positive, as in PyTorch's own leaky_relu; NaN is not clamped.

    Args:
        x: float32, float64, float16 or bfloat16, of any shape; without a copy if its elements fill their memory
            and dimension 0, the samples, is outermost there.
        b: one value for each index of dimension `dim` of x, in any floating dtype; None adds nothing.
        dim: the dimension of x that b runs along.
        act: linear, relu or lrelu.
        alpha, gain, clamp: as for `bias_act`.

    Returns:
        y of the shape and dtype of x, and the mask in y's memory order.

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: an argument has a wrong shape, name or range.
        RuntimeError: x or b requires a gradient and grad mode is on.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    name = "bias_act_with_mask"
    arguments = _check_forward(name, x, b, dim, act, alpha, gain, clamp)
    backend = select("frozen_bias_act", x)
    if backend == "reference":
        return bias_act_with_mask_reference(x, b, dim, act, alpha, gain, clamp)
    y, bits = operators.bias_act_with_mask(x, b, *arguments, backend)
    return y, ActivationMask(bits, memory_order(y), clamp is not None)


def bias_act_with_mask_(
    x: Tensor,  # [..., channels, ...]
    b: Tensor | None = None,  # [channels]
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> ActivationMask:
    """`bias_act_with_mask` that overwrites x with y, for layers like `nn.LeakyReLU(inplace=True)`.

    Arguments and errors are those of `bias_act_with_mask`. Where that copies x, x is overwritten through the
    copy, whose memory order is the mask's.
    """
    arguments = _check_forward("bias_act_with_mask_", x, b, dim, act, alpha, gain, clamp)
    backend = select("frozen_bias_act", x)
    if backend == "reference":
        y, mask = bias_act_with_mask_reference(x, b, dim, act, alpha, gain, clamp)
        x.copy_(y)
        return mask
    order = memory_order(by_sample(x))
    bits = operators.bias_act_with_mask_(x, b, *arguments, backend)
    return ActivationMask(bits, order, clamp is not None)


def _check_forward(
    name: str, x: Any, b: Any, dim: int, act: str, alpha: float | None, gain: float | None, clamp: float | None
) -> tuple[int, str, float, float, float | None]:
    """Checks the arguments of bias_act_with_mask and resolves those that are not tensors."""
    check(name, "x", x, b, dim, act, alpha, clamp)
    refuse_autograd(name, x=x, b=b)
    slope, gain = slope_and_gain(act, alpha, gain)
    return dim % x.ndim, act, slope, gain, None if clamp is None else float(clamp)


def frozen_bias_act(
    u: Tensor,  # [..., channels, ...]
    b: Tensor | None,  # [channels]
    s: Tensor | None,  # [samples]
    mask: ActivationMask,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:  # like u
    """Bias and activation with the activation frozen at the input whose mask is given: linear in (u, b).

        y = p (u + s b) with p = gain * (1 if positive else alpha); where clamped, y = s * clamp with the sign of the
        clamped output

    With u = x and s = None this is `bias_act(x, b)`, and so are its derivatives. Differentiable to any order with
    respect to u and b, by compiled kernels: du = p dy (0 where clamped), and db, the sum over each channel of s du, in
    the same pass. Nothing flows to s and to the mask.

    Args:
        u: float32, float64, float16 or bfloat16, of the shape of the x of the mask; copied to the mask's memory order
            if it has another.
        b: one value for each index of dimension `dim` of u, in any floating dtype; None adds nothing.
        s: what each sample's bias and clamp are multiplied by; None stands for ones. Sample i is the i-th of s.numel()
            equal parts of dimension 0, whose size s.numel() divides: channels may be folded into the batch.
        mask: from `bias_act_with_mask`, with the same dim, act, alpha, gain and clamp.
        dim, act, alpha, gain, clamp: as for `bias_act_with_mask`.

    Returns:
        A tensor of the shape and dtype of u in the mask's memory order; the arithmetic is float32 (float64 for
        float64).

    Raises:
        TypeError: an argument is not a floating tensor, or the mask is no ActivationMask.
        ValueError: an argument has a wrong shape, name or range, the mask does not belong to u, or s requires a
            gradient.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    name = "frozen_bias_act"
    check(name, "u", u, b, dim, act, alpha, clamp)
    check_frozen(name, "u", u, s, mask)
    if mask.clamped != (clamp is not None):
        raise ValueError(f"{name}: clamp is {clamp}, but the mask was made {'with' if mask.clamped else 'without'} one")
    backend = select("frozen_bias_act", u)
    if backend == "reference":
        return frozen_bias_act_reference(u, b, s, mask, dim, act, alpha, gain, clamp)
    bound = None if clamp is None else float(clamp)
    config = FrozenConfig(mask.order, dim % u.ndim, *slope_and_gain(act, alpha, gain), bound, True, backend)
    return FrozenBiasAct.apply(u, b, s, mask.bits, config)


def frozen_bias_act_(
    u: Tensor,  # [..., channels, ...]
    b: Tensor | None,  # [channels]
    s: Tensor | None,  # [samples]
    mask: ActivationMask,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:  # like u
    """`frozen_bias_act` without derivatives, in the memory of u where that has the mask's order.

    Arguments and errors are those of `frozen_bias_act`. The result is u itself, or a new tensor.

    Raises:
        RuntimeError: u or b requires a gradient and grad mode is on.
    """
    name = "frozen_bias_act_"
    check(name, "u", u, b, dim, act, alpha, clamp)
    check_frozen(name, "u", u, s, mask)
    refuse_autograd(name, u=u, b=b)
    backend = select("frozen_bias_act", u)
    if backend == "reference" or not u.permute(mask.order).is_contiguous():
        with torch.no_grad():
            return frozen_bias_act(u, b, s, mask, dim, act, alpha, gain, clamp)
    bound = None if clamp is None else float(clamp)
    constants = (*slope_and_gain(act, alpha, gain), bound, True, backend)
    operators.frozen_bias_act_(u, b, s, mask.bits, mask.order, dim % u.ndim, *constants)
    return u


def frozen_bias_act_grad(
    dy: Tensor,  # [..., channels, ...]
    mask: ActivationMask,
    s: Tensor | None = None,  # [samples]
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    bias_grad: bool = True,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor | None]:  # like dy, [channels]
    """The derivatives of `frozen_bias_act` for a cotangent dy, as a function that is not itself differentiable.

        du = p dy, 0 where clamped;  db = the sum over each channel of s du

    For those who write a backward pass by hand. Arguments and errors are those of `frozen_bias_act`; the clamp is in
    the mask. With `overwrite` du may take the memory of dy, which the caller needs no more.

    Returns:
        du, of the shape and dtype of dy in the mask's memory order, and db in float32 (float64 for float64), or None
        without `bias_grad`.

    Raises:
        RuntimeError: dy requires a gradient and grad mode is on.
    """
    name = "frozen_bias_act_grad"
    check(name, "dy", dy, None, dim, act, alpha, None)
    check_frozen(name, "dy", dy, s, mask)
    refuse_autograd(name, dy=dy)
    backend, dim = select("frozen_bias_act", dy), dim % dy.ndim
    slope, gain = slope_and_gain(act, alpha, gain)
    if backend == "reference":
        return frozen_bias_act_grad_reference(dy, mask, s, dim, slope, gain, bias_grad)
    constants = (mask.order, dim, slope, gain, mask.clamped, backend)
    if overwrite and dy.permute(mask.order).is_contiguous():
        db = operators.frozen_bias_act_grad_(dy, s, mask.bits, *constants, bias_grad)
        return dy, db if bias_grad else None
    du, db = operators.frozen_bias_act_grad(dy, s, mask.bits, *constants, bias_grad)
    return du, db if bias_grad else None
