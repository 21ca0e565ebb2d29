"""The derivatives of frozen_bias_act: autograd functions over the operators of backends.py."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.frozen_bias_act import backends as operators
from fastgan.ops.frozen_bias_act.backends import FrozenConfig


class FrozenBiasAct(torch.autograd.Function):
    """y = p (u + s b), plus the constant of what is clamped; saves the mask and s."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor, config: FrozenConfig) -> Tensor:
        ctx.save_for_backward(s, bits)
        ctx.config = config
        ctx.bias_dtype = None if b is None else b.dtype
        ctx.set_materialize_grads(False)
        return operators.frozen_bias_act(u, b, s, bits, *config)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 5
        s, bits = ctx.saved_tensors
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate du.
        gradient = FrozenBiasActGrad.apply if torch.is_grad_enabled() else _gradient
        du, db = gradient(dy, s, bits, ctx.config, ctx.needs_input_grad[1])
        if db is not None:
            db = db.to(ctx.bias_dtype)
        return du if ctx.needs_input_grad[0] else None, db, None, None, None


def _gradient(
    dy: Tensor, s: Tensor | None, bits: Tensor, config: FrozenConfig, bias_grad: bool
) -> tuple[Tensor, Tensor | None]:
    order, dim, slope, gain, clamp, _, backend = config
    constants = (order, dim, slope, gain, clamp is not None, backend)
    du, db = operators.frozen_bias_act_grad(dy, s, bits, *constants, bias_grad)
    return du, db if bias_grad else None


class FrozenBiasActGrad(torch.autograd.Function):
    """du = p dy and db = the sums of s du over each channel, as a function of dy."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, s: Tensor | None, bits: Tensor, config: FrozenConfig, bias_grad: bool
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(s, bits)
        ctx.config = config
        ctx.like = (dy.shape, dy.dtype)
        ctx.set_materialize_grads(False)
        return _gradient(dy, s, bits, config, bias_grad)

    @staticmethod
    def backward(ctx: Any, ddu: Tensor | None, ddb: Tensor | None) -> tuple[Tensor | None, ...]:
        if ddu is None and ddb is None:
            return (None,) * 5
        s, bits = ctx.saved_tensors
        if ddu is None:
            assert ddb is not None
            shape, dtype = ctx.like
            ddu = ddb.new_zeros(shape, dtype=dtype)
        # The transpose of a linear map's transpose is the map itself, without the constant of what is clamped.
        return FrozenBiasAct.apply(ddu, ddb, s, bits, ctx.config._replace(constant=False)), None, None, None, None
