"""frozen_bias_act and its relatives in plain PyTorch: the oracle, the fallback and the benchmarks' eager version."""

import math

import torch
from torch import Tensor

from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops._common.layout import along, by_sample, memory_order
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.bias_act.reference import bias_act_reference
from fastgan.ops.frozen_bias_act.mask import ActivationMask, pack, planes


def bias_act_with_mask_reference(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> tuple[Tensor, ActivationMask]:
    """`bias_act_with_mask`, with or without autograd."""
    x = by_sample(x)
    order = memory_order(x)
    y = bias_act_reference(x, b, dim, act, alpha, gain, clamp)
    positive = (x if b is None else x + along(b.to(x.dtype), dim % x.ndim, x.ndim)) > 0
    bits = pack(positive, order)
    if clamp is not None:
        # As a tensor, so that it is rounded to the dtype of y before it is compared.
        reached = y.abs() >= torch.full((), clamp, dtype=y.dtype, device=y.device)
        bits = torch.cat([bits, pack(~reached, order)])
    return y, ActivationMask(bits, order, clamp is not None)


def frozen_bias_act_reference(
    u: Tensor,
    b: Tensor | None,
    s: Tensor | None,
    mask: ActivationMask,
    dim: int = 1,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`frozen_bias_act`, differentiable to any order."""
    slope, gain = slope_and_gain(act, alpha, gain)
    positive, is_open = planes(mask, tuple(u.shape))
    z = u.to(compute_dtype(u))
    scale = None if s is None else _per_sample(s, z)
    if b is not None:
        bias = along(b.to(z.dtype), dim % u.ndim, u.ndim)
        z = z + (bias if scale is None else scale * bias)
    y = gain * torch.where(positive, z, slope * z if slope else 0)  # of infinity too, as relu does
    if is_open is not None:
        edge = torch.full((), math.copysign(1.0, gain) * (clamp or 0.0), dtype=z.dtype, device=z.device)
        bound = torch.where(positive, edge, -edge)
        y = torch.where(is_open, y, bound if scale is None else scale * bound)
    return y.to(u.dtype)


def frozen_bias_act_grad_reference(
    dy: Tensor, mask: ActivationMask, s: Tensor | None, dim: int, slope: float, gain: float, bias_grad: bool
) -> tuple[Tensor, Tensor | None]:
    positive, is_open = planes(mask, tuple(dy.shape))
    wide = dy.to(compute_dtype(dy))
    du = torch.where(positive, gain * wide, gain * slope * wide if slope else 0)  # as in `frozen_bias_act`
    if is_open is not None:
        du = torch.where(is_open, du, 0)
    scaled = du if s is None else du * _per_sample(s, du)
    others = [i for i in range(dy.ndim) if i != dim]
    return du.to(dy.dtype), (scaled.sum(others) if others else scaled) if bias_grad else None


def _per_sample(s: Tensor, u: Tensor) -> Tensor:
    """s, in the dtype of u, for each index of dimension 0 of u, shaped to broadcast against u."""
    repeats = u.shape[0] // max(s.numel(), 1)
    return along(s.to(u.dtype).repeat_interleave(repeats), 0, u.ndim)


def slope_and_gain(act: str, alpha: float | None, gain: float | None) -> tuple[float, float]:
    row = ACTIVATIONS[act]
    slope = {"linear": 1.0, "relu": 0.0}.get(act)
    if slope is None:
        slope = float(row.default_alpha or 0.0) if alpha is None else float(alpha)
    return slope, row.default_gain if gain is None else float(gain)
