"""The derivatives of minibatch_discrimination: autograd functions over the operators of backends.py."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.partial_gradients import higher_derivatives
from fastgan.ops.minibatch_discrimination import backends as operators
from fastgan.ops.minibatch_discrimination.reference import minibatch_discrimination_reference


class MinibatchDiscrimination(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, m: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(m)
        ctx.backend = backend
        return operators.minibatch_discrimination(m, backend)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (m,) = ctx.saved_tensors
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody will differentiate dm.
        gradient = (
            MinibatchDiscriminationGrad.apply if torch.is_grad_enabled() else operators.minibatch_discrimination_grad
        )
        return gradient(g, m, ctx.backend), None


class MinibatchDiscriminationGrad(torch.autograd.Function):
    """dm_ikc = -sum_j (g_ik + g_jk) c_ijk sign(m_ikc - m_jkc), c_ijk the similarity of samples i and j."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, m: Tensor, backend: str) -> Tensor:
        ctx.save_for_backward(g, m)
        ctx.backend = backend
        return operators.minibatch_discrimination_grad(g, m, backend)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad_g, grad_m = MinibatchDiscriminationGrad2.apply(v, *ctx.saved_tensors, ctx.backend)
        return grad_g, grad_m, None


class MinibatchDiscriminationGrad2(torch.autograd.Function):
    """The cotangents of g and m for a cotangent v of dm (csrc/minibatch_discrimination.h)."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, m: Tensor, backend: str) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(v, g, m)
        ctx.set_materialize_grads(False)
        return operators.minibatch_discrimination_grad2(v, g, m, backend)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        of_g, of_m = cotangents
        return *higher_derivatives(ctx, minibatch_discrimination_reference, (of_g, of_m)), None
