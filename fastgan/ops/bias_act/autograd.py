"""The derivatives of bias_act: autograd functions over the operators of backends.py."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops._common.layout import along
from fastgan.ops._common.partial_gradients import partial_gradients
from fastgan.ops.bias_act import backends as operators
from fastgan.ops.bias_act.backends import BiasActConfig
from fastgan.ops.bias_act.reference import bias_act_grad2_reference


class BiasAct(torch.autograd.Function):
    """y = clamp(gain f(x + b)); saves x or y, whichever the slope is written in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor | None, config: BiasActConfig) -> Tensor:
        y = operators.bias_act(x, b, *config)
        saves = ACTIVATIONS[config.act].saves
        if saves == "nothing" and config.clamp is None:
            ctx.save_for_backward(None, None)
        elif saves == "input":
            ctx.save_for_backward(x, b)
        else:
            ctx.save_for_backward(y, None)
        ctx.config = config
        ctx.bias_dtype = None if b is None else b.dtype
        ctx.set_materialize_grads(False)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return None, None, None
        saved, b = ctx.saved_tensors
        if saved is not None and ACTIVATIONS[ctx.config.act].curvature is None:
            # Piecewise linear: the slope is locally constant, nothing flows to s. A tensor of zeros (or an undefined
            # gradient, which would be filled with them) would drag a whole backward pass through the network below.
            saved = saved.detach()
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dx.
        gradient = BiasActGrad.apply if torch.is_grad_enabled() else _gradient
        dx, db = gradient(dy, saved, b, ctx.config, ctx.needs_input_grad[1])
        if db is not None:
            db = db.to(ctx.bias_dtype)
        return dx if ctx.needs_input_grad[0] else None, db, None


def _gradient(
    dy: Tensor, saved: Tensor | None, b: Tensor | None, config: BiasActConfig, bias_grad: bool
) -> tuple[Tensor, Tensor | None]:
    dx, db = operators.bias_act_grad(dy, saved, b, *config, bias_grad)
    return dx, db if bias_grad else None


class BiasActGrad(torch.autograd.Function):
    """dx = dy p(s) and db = the sums of dx over each channel, as a function of dy and of the saved tensor s."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, saved: Tensor | None, b: Tensor | None, config: BiasActConfig, bias_grad: bool
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(dy, saved, b)
        ctx.config = config
        ctx.set_materialize_grads(False)
        return _gradient(dy, saved, b, config, bias_grad)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor | None, ddb: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, saved, b = ctx.saved_tensors
        config: BiasActConfig = ctx.config
        if ddb is not None:  # db sums dx, so its cotangent spreads over the channel
            spread = along(ddb.to(dy.dtype), config.dim, dy.ndim)
            ddx = spread.expand_as(dy) if ddx is None else ddx + spread
        if ddx is None:
            return None, None, None, None, None
        grad_dy = grad_saved = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_dy, _ = BiasActGrad.apply(ddx, saved, b, config, False)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_saved = BiasActGrad2.apply(ddx, dy, saved, b, config)
            if b is not None and ctx.needs_input_grad[2]:
                others = [i for i in range(dy.ndim) if i != config.dim]
                grad_b = (grad_saved.sum(others) if others else grad_saved).to(b.dtype)
        return grad_dy, grad_saved, grad_b, None, None


class BiasActGrad2(torch.autograd.Function):
    """t = u dy p'(s), the part of the double backward that flows to the saved tensor s."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, dy: Tensor, saved: Tensor, b: Tensor | None, config: BiasActConfig) -> Tensor:
        ctx.save_for_backward(u, dy, saved, b)
        ctx.config = config
        return operators.bias_act_grad2(u, dy, saved, b, *config)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        composed = partial(bias_act_grad2_reference, config=ctx.config)
        return *partial_gradients(composed, ctx.saved_tensors, ctx.needs_input_grad, grad), None
