"""The derivatives of interpolate: autograd functions over the operators of backends.py."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.interpolate import backends as operators


class Interpolate(torch.autograd.Function):
    """o = e x + (1 - e) y; saves the seed, not the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, seed: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(seed)
        ctx.backend = backend
        return operators.interpolate(x, y, seed, backend)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (seed,) = ctx.saved_tensors
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dx.
        gradient = InterpolateGrad.apply if torch.is_grad_enabled() else operators.interpolate_grad
        dx, dy = gradient(g, seed, ctx.backend)
        return dx if ctx.needs_input_grad[0] else None, dy if ctx.needs_input_grad[1] else None, None, None


class InterpolateGrad(torch.autograd.Function):
    """dx = e g and dy = (1 - e) g. Linear: its derivative is `interpolate` again, with the same seed."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, seed: Tensor, backend: str) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(seed)
        ctx.backend = backend
        return operators.interpolate_grad(g, seed, backend)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor, ddy: Tensor) -> tuple[Tensor, None, None]:
        return Interpolate.apply(ddx, ddy, *ctx.saved_tensors, ctx.backend), None, None
