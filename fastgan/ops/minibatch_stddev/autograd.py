"""The derivatives of minibatch_stddev: autograd functions over the operators of backends.py."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.partial_gradients import higher_derivatives
from fastgan.ops.minibatch_stddev import backends as operators
from fastgan.ops.minibatch_stddev.reference import minibatch_stddev_reference


class MinibatchStddev(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group_size: int | None, num_channels: int, backend: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.config = group_size, num_channels, backend
        return operators.minibatch_stddev(x, group_size, num_channels, backend)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dx.
        gradient = MinibatchStddevGrad.apply if torch.is_grad_enabled() else operators.minibatch_stddev_grad
        return gradient(g, x, *ctx.config), None, None, None


class MinibatchStddevGrad(torch.autograd.Function):
    """dx = g + a u, u the deviations in units of the standard deviation (csrc/minibatch_stddev.h)."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, group_size: int | None, num_channels: int, backend: str) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.config = group_size, num_channels, backend
        return operators.minibatch_stddev_grad(g, x, group_size, num_channels, backend)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        grad_g, grad_x = MinibatchStddevGrad2.apply(v, *ctx.saved_tensors, *ctx.config)
        return grad_g, grad_x, None, None, None


class MinibatchStddevGrad2(torch.autograd.Function):
    """The cotangents of g and x for a cotangent v of dx."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, g: Tensor, x: Tensor, group_size: int | None, num_channels: int, backend: str
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(v, g, x)
        ctx.sizes = group_size, num_channels
        ctx.set_materialize_grads(False)
        return operators.minibatch_stddev_grad2(v, g, x, group_size, num_channels, backend)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        of_g, of_x = cotangents
        reference = lambda x: minibatch_stddev_reference(x, *ctx.sizes)  # noqa: E731
        return *higher_derivatives(ctx, reference, (of_g, of_x)), None, None, None
