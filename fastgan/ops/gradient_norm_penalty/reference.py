"""gradient_norm_penalty and penalised_input in plain PyTorch."""

import math

import torch
from torch import Tensor

from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.gradient_norm_penalty.backends import Penalty


def gradient_norm_penalty_reference(
    g: Tensor, weight: float, target: float | None = None, one_sided: bool = False
) -> Tensor:
    """`gradient_norm_penalty` in plain PyTorch."""
    squares = rows_of(g).square().sum(1)
    if target is None:
        return weight / 2 * squares
    excess = norm_of(squares) - target
    return weight * (excess.relu() if one_sided else excess).square()


def penalised_input_reference(
    g: Tensor,
    x: Tensor,
    s: Tensor | None,
    weight: float,
    target: float | None = None,
    one_sided: bool = False,
    scale: float = 1.0,
    grad_scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """`penalised_input` in plain PyTorch."""
    gradient = rows_of(g) * grad_scale
    norm = norm_of(gradient.square().sum(1))
    slope, _ = slope_and_curvature(norm, Penalty(weight, target, one_sided))
    u = (scale * slope).unsqueeze(1) * gradient
    if s is not None:
        u = s.to(u.dtype).unsqueeze(1) * rows_of(x) + u
    penalty = gradient_norm_penalty_reference(gradient, weight, target, one_sided)
    return torch.empty_like(x).copy_(u.view(x.shape)), penalty, norm


def rows_of(g: Tensor) -> Tensor:
    """g as [B, elements of a sample], in the dtype of the arithmetic."""
    return g.to(compute_dtype(g)).reshape(g.shape[0], math.prod(g.shape[1:]))


def norm_of(squares: Tensor) -> Tensor:
    """sqrt(squares) with derivative 0 at 0, also where it is differentiated again."""
    positive = squares != 0  # NaN stays NaN
    return torch.where(positive, torch.where(positive, squares, 1).sqrt(), 0)


def slope_and_curvature(norm: Tensor, penalty: Penalty) -> tuple[Tensor, Tensor]:
    """c(n) = r'(n)/n and c'(n)/n; 0 where n = 0 and where a one-sided penalty is inactive."""
    weight, target, one_sided = penalty
    if target is None:
        return torch.full_like(norm, weight), torch.zeros_like(norm)
    active = norm != 0
    if one_sided:
        active = active & ~(norm <= target)
    divisor = torch.where(active, norm, 1)
    slope = torch.where(active, 2 * weight * (1 - target / divisor), 0)
    return slope, torch.where(active, 2 * weight * target / divisor**3, 0)
