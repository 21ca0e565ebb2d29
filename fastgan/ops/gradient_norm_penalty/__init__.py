"""gradient_norm_penalty: the penalty of R1, R2 and WGAN-GP per sample, and its product with the gradient.

Norm, penalty and derivative are one pass over the gradient each; eager PyTorch makes one per operation. Penalties are
float32 for half-precision gradients, whose squares would overflow float16.
"""

from typing import Any

import torch
from torch import Tensor

from fastgan.backends import select
from fastgan.ops._common.checks import check_floating
from fastgan.ops.gradient_norm_penalty import backends as operators
from fastgan.ops.gradient_norm_penalty.autograd import GradientNormPenalty
from fastgan.ops.gradient_norm_penalty.backends import Penalty
from fastgan.ops.gradient_norm_penalty.reference import gradient_norm_penalty_reference, penalised_input_reference


def gradient_norm_penalty(
    g: Tensor,  # [B, ...]
    weight: float,
    target: float | None = None,
    one_sided: bool = False,
) -> Tensor:  # [B]
    """Penalises the norm of each sample's gradient.

        target None     r_i = weight/2 * ||g_i||^2
        target t        r_i = weight * (||g_i|| - t)^2
        one-sided       r_i = weight * max(0, ||g_i|| - t)^2

    In this order: Mescheder et al. 2018, Which Training Methods for GANs do actually Converge?, arXiv:1801.04406 (R1
    and R2; weight is their gamma). Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028
    (weight is lambda, t = 1). Petzka et al. 2018, On the regularization of Wasserstein GANs, arXiv:1709.08894. The
    derivative at ||g_i|| = 0 is 0, PyTorch's subgradient of the norm. Differentiable to any order: the first derivative
    is a kernel, the others are composed of torch operations.

    Args:
        g: the gradient of a critic's outputs with respect to its inputs: float32, float64, float16 or bfloat16,
            contiguous or channels_last without a copy.
        weight: any number.
        target: the norm that costs nothing, >= 0; None for the zero-centred penalty.
        one_sided: whether norms below the target cost nothing; needs a target.

    Returns:
        [B] in float32 (float64 for float64), for half-precision g too.

    Raises:
        TypeError: g is not a floating tensor.
        ValueError: g has no dimensions, target is negative, or one_sided comes without a target.
        fastgan.BackendError: a backend was forced that cannot take g.
    """
    penalty = _check("gradient_norm_penalty", g, weight, target, one_sided)
    backend = select("gradient_norm_penalty", g)
    if backend == "reference":
        return gradient_norm_penalty_reference(g, *penalty)
    return GradientNormPenalty.apply(g, penalty, backend)


@torch.no_grad()
def penalised_input(
    g: Tensor,  # [B, ...]
    x: Tensor,  # like g
    s: Tensor | None,  # [B]
    weight: float,
    target: float | None = None,
    one_sided: bool = False,
    scale: float = 1.0,
    grad_scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:  # like x, [B], [B]
    """The penalty r of `gradient_norm_penalty`, and s x plus its derivative, in one pass; itself not differentiable.

        u_i = s_i x_i + scale * dr/dg'_i,    g'_i = grad_scale * g_i

    A tangent u of this form takes the gradient of a loss and of a penalty through a network at once. g is read a second
    time from the cache, and nothing of its size is written but u.

    Args:
        g: the gradient divided by grad_scale: float32, float64, float16 or bfloat16.
        x: of the shape, dtype and device of g; its memory order is that of the result.
        s: one factor for each sample, in any floating dtype; None for 0, and then x is not read.
        weight, target, one_sided: as for `gradient_norm_penalty`.
        scale: of the penalty's derivative, 1/B for a mean over the batch.
        grad_scale: what g must be multiplied by to be the gradient, where a loss was scaled to keep float16 gradients
            in range. Norm, penalty and derivative are those of the product.

    Returns:
        u in the dtype and memory order of x; the penalties r and the norms ||g'_i||, [B] in float32 (float64 for
        float64).

    Raises:
        TypeError: g, x or s is not a floating tensor, or the dtypes of g and x differ.
        ValueError: shapes or devices differ, or as for `gradient_norm_penalty`.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    penalty = _check("penalised_input", g, weight, target, one_sided)
    _check_input(g, x, s)
    backend = select("gradient_norm_penalty", g)
    if backend == "reference":
        return penalised_input_reference(g, x, s, *penalty, scale, grad_scale)
    return operators.penalised_input(g, x, s, *penalty, float(scale), float(grad_scale), backend)


def _check(op: str, g: Any, weight: float, target: float | None, one_sided: bool) -> Penalty:
    check_floating(op, "g", g)
    if g.ndim == 0:
        raise ValueError(f"{op}: g has no dimensions, expected at least one")
    if target is not None and not target >= 0:
        raise ValueError(f"{op}: target is {target}, expected a norm >= 0 or None")
    if one_sided and target is None:
        raise ValueError(f"{op}: one_sided is True but target is None, expected a target")
    return Penalty(float(weight), None if target is None else float(target), bool(one_sided))


def _check_input(g: Tensor, x: Any, s: Any) -> None:
    for name, tensor in (("x", x), ("s", s)):
        if tensor is None and name == "s":
            continue
        check_floating("penalised_input", name, tensor)
        if tensor.device != g.device:
            raise ValueError(f"penalised_input: {name} is on {tensor.device}, expected {g.device} like g")
    if x.dtype != g.dtype:
        raise TypeError(f"penalised_input: x is {x.dtype}, expected {g.dtype} like g")
    if x.shape != g.shape:
        raise ValueError(f"penalised_input: x has shape {list(x.shape)}, expected {list(g.shape)} like g")
    if s is not None and (s.ndim != 1 or s.shape[0] != g.shape[0]):
        raise ValueError(f"penalised_input: s has shape {list(s.shape)}, expected [{g.shape[0]}]")
