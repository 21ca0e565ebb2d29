"""The derivatives of convolution: autograd functions over the passes of passes.py.

<dy, conv(x, w)> is linear in each of its three tensors, so its gradients are

    conv(x, w)      PyTorch's convolution
    dgrad(dy, w)    its gradient to x
    wgrad(x, dy)    its gradient to w

and each of them differentiates into the other two.

Each saves both of its tensors, as PyTorch's own convolution does, even where only one is multiplied again: the other
shows its shape and memory format to convolution_backward, which reads no element of it (uninitialised memory of that
shape is no faster). That operator, and not a transposed convolution, computes dgrad: the latter took four times as long
on a CPU where grouped convolutions have a stride, and elsewhere the same.
"""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.wanted import wanted
from fastgan.ops.convolution import passes
from fastgan.ops.convolution.passes import ConvolutionConfig


class Convolution(torch.autograd.Function):
    """y = conv(x, w) + bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, config: ConvolutionConfig) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.config = config
        ctx.set_materialize_grads(False)
        return passes.forward(x, w, bias, config)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None) -> tuple[Tensor | None, ...]:
        if dy is None:
            return None, None, None, None
        x, w = ctx.saved_tensors
        needs_x, needs_w, needs_bias = (wanted(ctx, i) for i in range(3))
        if not torch.is_grad_enabled():  # nobody will differentiate the gradients: one call for all of them
            return *passes.gradients(dy, x, w, ctx.config, (needs_x, needs_w, needs_bias)), None
        dx = _dgrad(dy, w, x, ctx.config) if needs_x else None
        dw = _wgrad(x, dy, w, ctx.config) if needs_w else None
        db = dy.sum([i for i in range(dy.ndim) if i != 1]) if needs_bias else None
        return dx, dw, db, None


class Dgrad(torch.autograd.Function):
    """dx = dgrad(dy, w), of the shape of the detached x."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, w: Tensor, x: Tensor, config: ConvolutionConfig) -> Tensor | None:
        ctx.save_for_backward(dy, w)
        ctx.config = config
        ctx.set_materialize_grads(False)
        return _dgrad(dy, w, x, config)

    @staticmethod
    def backward(ctx: Any, u: Tensor | None) -> tuple[Tensor | None, ...]:
        if u is None:
            return None, None, None, None
        dy, w = ctx.saved_tensors
        grad_dy = _conv(u, w, ctx.config) if wanted(ctx, 0) else None
        grad_w = _wgrad(u, dy, w, ctx.config) if wanted(ctx, 1) else None
        return grad_dy, grad_w, None, None


class Wgrad(torch.autograd.Function):
    """dw = wgrad(x, dy), of the shape of the detached w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dy: Tensor, w: Tensor, config: ConvolutionConfig) -> Tensor | None:
        ctx.save_for_backward(x, dy)
        ctx.config = config
        ctx.set_materialize_grads(False)
        return _wgrad(x, dy, w, config)

    @staticmethod
    def backward(ctx: Any, q: Tensor | None) -> tuple[Tensor | None, ...]:
        if q is None:
            return None, None, None, None
        x, dy = ctx.saved_tensors
        grad_x = _dgrad(dy, q, x, ctx.config) if wanted(ctx, 0) else None
        grad_dy = _conv(x, q, ctx.config) if wanted(ctx, 1) else None
        return grad_x, grad_dy, None, None


def _conv(x: Tensor, w: Tensor, config: ConvolutionConfig) -> Tensor:
    return Convolution.apply(x, w, None, config) if torch.is_grad_enabled() else passes.forward(x, w, None, config)


def _dgrad(dy: Tensor, w: Tensor, x: Tensor, config: ConvolutionConfig) -> Tensor | None:
    if torch.is_grad_enabled():
        return Dgrad.apply(dy, w, x.detach(), config)
    return passes.gradients(dy, x, w, config, (True, False, False))[0]


def _wgrad(x: Tensor, dy: Tensor, w: Tensor, config: ConvolutionConfig) -> Tensor | None:
    if torch.is_grad_enabled():
        return Wgrad.apply(x, dy, w.detach(), config)
    return passes.gradients(dy, x, w, config, (False, True, False))[1]
