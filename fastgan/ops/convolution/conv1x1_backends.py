"""1x1 convolutions of images as products of matrices, on the CPU.

y[b] = w x[b] with the pixels as columns. In PyTorch's default memory order its own 1x1 convolution is up to ten times
slower on a CPU, since it brings images and weights into blocked formats and back; images in channels_last, which it
multiplies as they are, are left to it. Opaque to torch.compile; autograd.py differentiates them.

Products are written to tensors that are given: torch.autocast, which may be on in a backward pass, leaves those alone.
"""

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.ops._common.layout import suggests_channels_last
from fastgan.ops.convolution import minimal_filtering

MOST_AT_ONCE = 1 << 16
"""Weights up to which their gradient is the sum of one for each sample; of more, those would be a large tensor."""

LEAST_ELEMENTS = 4096
"""Of x. Fewer would be faster too, by fractions of a millisecond; theirs stay the bits that torch.compile computes,
which has PyTorch's convolution throughout."""


def pays(x: Tensor, w: Tensor, bias: Tensor | None) -> bool:
    """Whether it is the faster one. Sizes that do not fit are left to PyTorch, which says so."""
    return (
        minimal_filtering.available(x)
        and minimal_filtering.tensors_fit(x, w, bias, w.shape[1], w.shape[0])
        and x.numel() >= LEAST_ELEMENTS
        and x.is_contiguous()
        and not suggests_channels_last(x)
        and not suggests_channels_last(w)  # where PyTorch's result is channels_last too
    )


def _forward(x: Tensor, w: Tensor, bias: Tensor | None, turned: bool) -> Tensor:
    x = x.contiguous()
    w = w.flatten(1).t() if turned else w.flatten(1)
    y = allocation.empty((x.shape[0], w.shape[0], *x.shape[2:]), like=x)
    torch.bmm(w.expand(x.shape[0], *w.shape), x.flatten(2), out=y.flatten(2))
    return y if bias is None else y.add_(bias.view(-1, 1, 1))


def _weight_grad(x: Tensor, dy: Tensor) -> Tensor:
    pixels, gradients = x.contiguous().flatten(2), dy.contiguous().flatten(2)
    B, C, K = len(x), x.shape[1], dy.shape[1]
    dw = allocation.empty((K, C, 1, 1), like=x)
    matrix = dw.view(K, C)
    if C * K <= MOST_AT_ONCE:
        of_samples = allocation.empty((B, K, C), like=x)
        torch.bmm(gradients, pixels.transpose(1, 2), out=of_samples)
        torch.sum(of_samples, 0, out=matrix)
        return dw
    torch.mm(gradients[0], pixels[0].t(), out=matrix)
    for i in range(1, B):
        matrix.addmm_(gradients[i], pixels[i].t())
    return dw


def _fake_forward(x: Tensor, w: Tensor, bias: Tensor | None, turned: bool) -> Tensor:
    return x.new_empty((x.shape[0], w.shape[1 if turned else 0], *x.shape[2:]))


conv1x1 = define("conv1x1(Tensor x, Tensor w, Tensor? bias, bool turned) -> Tensor", _forward, _fake_forward)
conv1x1_weight_grad = define(
    "conv1x1_weight_grad(Tensor x, Tensor dy) -> Tensor",
    _weight_grad,
    lambda x, dy: x.new_empty((dy.shape[1], x.shape[1], 1, 1)),
)
