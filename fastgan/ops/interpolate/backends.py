"""The private operators of interpolate: they allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them.
"""

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.ops._common.kernels import kernels_for
from fastgan.ops._common.layout import dense, in_order_of


def _forward(x: Tensor, y: Tensor, seed: Tensor, backend: str) -> Tensor:
    given, x = x, dense(x)  # whichever dense order that is, the samples are outermost
    y = in_order_of(y, x)
    o = allocation.empty_like(x)
    kernels_for("interpolate", backend).forward(x, y, seed, o)
    return o if x is given else allocation.empty_like(given).copy_(o)  # in PyTorch's order: what follows may draw in it


def _grad(g: Tensor, seed: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    g = dense(g)
    dx, dy = allocation.empty_like(g), allocation.empty_like(g)
    kernels_for("interpolate", backend).grad(g, seed, dx, dy)
    return dx, dy


interpolate = define(
    "interpolate(Tensor x, Tensor y, Tensor seed, str backend) -> Tensor",
    _forward,
    lambda x, y, seed, backend: torch.empty_like(x),
)
interpolate_grad = define(
    "interpolate_grad(Tensor g, Tensor seed, str backend) -> (Tensor, Tensor)",
    _grad,
    lambda g, seed, backend: (torch.empty_like(dense(g)), torch.empty_like(dense(g))),
)
