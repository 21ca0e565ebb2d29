"""The derivatives of gradient_norm_penalty: autograd functions over the operators of backends.py."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.gradient_norm_penalty import backends as operators
from fastgan.ops.gradient_norm_penalty.backends import Penalty
from fastgan.ops.gradient_norm_penalty.reference import norm_of, rows_of, slope_and_curvature


class GradientNormPenalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, penalty: Penalty, backend: str) -> Tensor:
        r, norm = operators.gradient_norm_penalty(g, *penalty, backend)
        ctx.save_for_backward(g, norm)
        ctx.penalty, ctx.backend = penalty, backend
        return r

    @staticmethod
    def backward(ctx: Any, p: Tensor) -> tuple[Tensor, None, None]:
        g, norm = ctx.saved_tensors
        if not torch.is_grad_enabled():  # without create_graph nobody will differentiate dg
            return operators.gradient_norm_penalty_grad(p, g, norm, *ctx.penalty, ctx.backend), None, None
        return GradientNormPenaltyGrad.apply(p, g, norm, ctx.penalty, ctx.backend), None, None


class GradientNormPenaltyGrad(torch.autograd.Function):
    """dg_i = p_i c(n_i) g_i, as a function of p and of g."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, g: Tensor, norm: Tensor, penalty: Penalty, backend: str) -> Tensor:
        ctx.save_for_backward(p, g)
        ctx.penalty = penalty
        return operators.gradient_norm_penalty_grad(p, g, norm, *penalty, backend)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Composed: p_i gets c <v_i, g_i>, and g_i gets p_i (c v_i + c'/n <v_i, g_i> g_i)."""
        p, g = ctx.saved_tensors
        rows, cotangents = rows_of(g), rows_of(v)
        norm = norm_of(rows.square().sum(1))  # again, because the saved one is no function of g to autograd
        slope, curvature = slope_and_curvature(norm, ctx.penalty)
        product = (cotangents * rows).sum(1)
        grad_g = (p * slope).unsqueeze(1) * cotangents + (p * curvature * product).unsqueeze(1) * rows
        return slope * product, grad_g.view(g.shape).to(g.dtype), None, None, None
