"""The derivatives of attention: autograd functions over the operators of backends.py, up to the second."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.wanted import wanted
from fastgan.ops.attention import backends as operators


class Centred(torch.autograd.Function):
    """Queries and keys less the mean key: the distances between them do not depend on it, nor do their derivatives."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        centre = k.mean(-2, keepdim=True)
        return q - centre, k - centre

    @staticmethod
    def backward(ctx: Any, dq: Tensor | None, dk: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        return dq, dk


class Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, backend: str) -> Tensor:
        o, softmax = operators.attention(q, k, v, bias, scale, backend)
        ctx.save_for_backward(q, k, v, bias, o, softmax)
        ctx.how = scale, backend
        ctx.set_materialize_grads(False)
        return o

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None:
            return (None,) * 6
        *inputs, o, softmax = ctx.saved_tensors
        needs = [wanted(ctx, i) for i in range(4)]
        # Grad mode is on in a backward pass only with create_graph=True; otherwise nobody differentiates once more.
        if torch.is_grad_enabled():
            found = AttentionGrad.apply(g, *inputs, o.detach(), softmax, needs, *ctx.how)
        else:
            scale, backend = ctx.how
            found = operators.attention_grad(g, *inputs, o, softmax, scale, needs, backend)
        return *(x if need else None for x, need in zip(found, needs, strict=True)), None, None


class AttentionGrad(torch.autograd.Function):
    """dq, dk, dv and dbias; o and softmax are of the same q, k, v and bias, which are what it is differentiated by."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, o: Tensor, softmax: Tensor,
        needs: list[bool], scale: float, backend: str,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        ctx.save_for_backward(g, q, k, v, bias, o, softmax)
        ctx.how = scale, backend
        ctx.set_materialize_grads(False)
        found = operators.attention_grad(g, q, k, v, bias, o, softmax, scale, needs, backend)
        ctx.mark_non_differentiable(*(x for x, need in zip(found, needs, strict=True) if not need))
        return found

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(y is None for y in cotangents):
            return (None,) * 10
        needs = [wanted(ctx, i) for i in range(5)]
        if torch.is_grad_enabled():
            found = AttentionGrad2.apply(*cotangents, *ctx.saved_tensors, needs, *ctx.how)
        else:
            scale, backend = ctx.how
            found = operators.attention_grad2(*cotangents, *ctx.saved_tensors, scale, needs, backend)
        return *(x if need else None for x, need in zip(found, needs, strict=True)), None, None, None, None, None


class AttentionGrad2(torch.autograd.Function):
    """The cotangents of g, q, k, v and the bias for cotangents of dq, dk, dv and dbias."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, needs, scale, backend = arguments
        return operators.attention_grad2(*tensors, scale, needs, backend)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError(
            "fastgan.ops.attention has no third derivative: expected at most a backward of a backward. "
            'With fastgan.backend("reference") around the call it has derivatives of any order.'
        )
