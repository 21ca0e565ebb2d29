"""The derivatives of upfirdn2d: an autograd function over the operator of backends.py."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.upfirdn2d import backends as operators
from fastgan.ops.upfirdn2d.backends import Upfirdn2dConfig
from fastgan.ops.upfirdn2d.filter import Pair


class Upfirdn2d(torch.autograd.Function):
    """y = A x; the gradient is A' dy, by the same function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Tensor | None, config: Upfirdn2dConfig, size: Pair) -> Tensor:
        ctx.save_for_backward(f)
        ctx.config, ctx.size = config, (x.shape[3], x.shape[2])
        return operators.upfirdn2d(x, f, *config, size)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
        (f,) = ctx.saved_tensors
        config = ctx.config.transposed(f)
        if torch.is_grad_enabled():  # create_graph=True; otherwise nobody will differentiate dx
            return Upfirdn2d.apply(dy, f, config, ctx.size), None, None, None
        return operators.upfirdn2d(dy, f, *config, ctx.size), None, None, None
