"""x * scale + strength * noise, differentiable to any order: the first half of `scaled_bias_act` where it is composed.

The gradients of scale and strength are sums of terms that cancel, that of strength over the whole tensor. In float32
those sums, not the terms, are most of the error (docs/performance.md has the figures): they are taken in double, in one
pass that keeps nothing of the size of x.
"""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.scaled_bias_act import backends as operators


def scaled_with_noise(
    x: Tensor,  # [B, C, *image]
    scale: Tensor,  # [B, C]
    noise: Tensor | None,  # [1 or B, 1, *image]
    strength: Tensor | None,  # one number; None for 1
    backend: str,
) -> Tensor:  # like x
    """One pass, of arguments that `scaled_bias_act` has checked, on a compiled backend."""
    return ScaledWithNoise.apply(x, scale, noise, strength, backend)


def noise_gradient_of(total: Tensor, noise: Tensor, strength: Tensor | None) -> Tensor:
    """The gradient of the noise from `total_like`. Differentiable to any order."""
    # In double, since to differentiate the product by strength sums over its pixels.
    return (total if strength is None else total.double() * strength.double().view(())).to(noise.dtype)


def total_like(noise: Tensor, t: Tensor) -> Tensor:
    """t [B, C, *image] summed over the samples and channels that share a pixel of the noise."""
    return t.sum((0, 1) if noise.shape[0] == 1 else 1, keepdim=True, dtype=compute_dtype(t))


class ScaledWithNoise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, backend: str
    ) -> Tensor:
        ctx.save_for_backward(x, scale, noise, strength)
        ctx.backend = backend
        ctx.set_materialize_grads(False)
        return operators.scaled_bias_act(x, scale, noise, strength, None, "linear", 0.0, 1.0, None, backend)

    @staticmethod
    def backward(ctx: Any, dv: Tensor | None) -> tuple[Tensor | None, ...]:
        if dv is None:
            return (None,) * 5
        x, scale, noise, strength = ctx.saved_tensors
        needs, backend = ctx.needs_input_grad, ctx.backend
        dx = dscale = dnoise = dstrength = None
        if needs[0]:
            dx = ScaledWithNoise.apply(dv, scale, None, None, backend)
        if needs[1]:
            dscale = PlaneDots.apply(dv, x, backend).to(scale.dtype)
        wanted = (needs[2], strength is not None and needs[3])
        if noise is not None and any(wanted):
            total, dot = NoiseSums.apply(dv, noise, wanted, backend)
            dnoise = noise_gradient_of(total, noise, strength) if total is not None else None
            dstrength = dot.to(strength.dtype).view_as(strength) if dot is not None else None
        return dx, dscale, dnoise, dstrength, None


class PlaneDots(torch.autograd.Function):
    """The sums over the pixels of t times w, both [B, C, *image]: [B, C] in float64."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, w: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(t, w)
        ctx.set_materialize_grads(False)
        return operators.plane_dots(t, w, backend)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None:
            return None, None, None
        t, w = ctx.saved_tensors
        factor = g.to(t.dtype).view(*g.shape, *(1 for _ in t.shape[2:]))
        dt = factor * w if ctx.needs_input_grad[0] else None
        dw = factor * t if ctx.needs_input_grad[1] else None
        return dt, dw, None


class NoiseSums(torch.autograd.Function):
    """`total_like` of the noise and t, and the sum of t times the noise in float64; either is None unless wanted.

    One function, so that their derivatives are added as images and not as tensors of the size of t.
    """

    @staticmethod
    def forward(
        ctx: Any, t: Tensor, noise: Tensor, wanted: tuple[bool, bool], backend: str
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.save_for_backward(t, noise)
        ctx.set_materialize_grads(False)
        total = total_like(noise, t) if wanted[0] else None
        return total, operators.plane_dots(t, noise.to(t.dtype), backend).sum() if wanted[1] else None

    @staticmethod
    def backward(ctx: Any, dtotal: Tensor | None, ddot: Tensor | None) -> tuple[Tensor | None, ...]:
        t, noise = ctx.saved_tensors
        dt, dnoise = dtotal, None
        if ddot is not None:
            ddot = ddot.to(compute_dtype(t))
            dt = ddot * noise if dt is None else dt + ddot * noise
            if ctx.needs_input_grad[1]:
                dnoise = (ddot * total_like(noise, t)).to(noise.dtype)
        return None if dt is None else dt.to(t.dtype).expand_as(t), dnoise, None, None
