"""spectral_norm in plain PyTorch, layer by layer: the oracle, the fallback and the benchmarks' eager version."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.spectral_norm.layout import matrix


class Settings(NamedTuple):
    """How the singular values are estimated; `scale`: whether the normalised weights are wanted as well."""

    iterations: int
    eps: float
    v_first: bool
    scale: bool = True


@torch.no_grad()
def power_iteration(weight: Tensor, u: Tensor, v: Tensor, dim: int, settings: Settings) -> tuple[Tensor, Tensor]:
    """u and v after some steps of the power method on the weight's matrix."""
    m, eps = matrix(weight, dim), settings.eps
    for _ in range(settings.iterations):
        if settings.v_first:
            v = F.normalize(torch.mv(m.t(), u), dim=0, eps=eps)
            u = F.normalize(torch.mv(m, v), dim=0, eps=eps)
        else:
            u = F.normalize(torch.mv(m, v), dim=0, eps=eps)
            v = F.normalize(torch.mv(m.t(), u), dim=0, eps=eps)
    return u, v


def sigma_of(weight: Tensor, u: Tensor, v: Tensor, dim: int) -> Tensor:
    """u' M v, differentiable to any order with respect to the weight."""
    return torch.dot(u, torch.mv(matrix(weight, dim), v))


def spectral_norm_reference(
    weights: Sequence[Tensor], u: Sequence[Tensor], v: Sequence[Tensor], dims: Sequence[int], settings: Settings,
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:  # fmt: skip
    """The normalised weights, the sigmas, and u and v after the iterations."""
    normalised, sigmas, us, vs = [], [], [], []
    for weight, left, right, dim in zip(weights, u, v, dims, strict=True):
        left, right = power_iteration(weight, left, right, dim, settings)
        sigma = sigma_of(weight, left, right, dim)
        normalised.append(weight / sigma)
        sigmas.append(sigma)
        us.append(left)
        vs.append(right)
    return normalised, sigmas, us, vs


def grad2_reference(
    d: Tensor, g: Tensor | None, weight: Tensor, u: Tensor, v: Tensor, dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The cotangents of g, weight and gs for a cotangent d of dW = G / sigma + (gs - <G, W> / sigma^2) u v'.

    csrc/spectral_norm.h has the formula; here it can be differentiated again.
    """
    sigma = sigma_of(weight, u, v, dim)
    a = sigma_of(d, u, v, dim)
    dg = d / sigma - (a / sigma**2) * weight
    if g is None:
        return dg, torch.zeros_like(weight), a
    factor = 2 * a * (g * weight).sum() / sigma**3 - (d * g).sum() / sigma**2
    return dg, factor * _outer(weight, u, v, dim) - (a / sigma**2) * g, a


def _outer(weight: Tensor, u: Tensor, v: Tensor, dim: int) -> Tensor:
    """u v' in the shape of the weight."""
    others = [size for d, size in enumerate(weight.shape) if d != dim]
    return torch.outer(u, v).view(u.shape[0], *others).movedim(0, dim)
