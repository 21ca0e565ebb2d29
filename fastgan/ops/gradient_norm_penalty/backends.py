"""The private operators of gradient_norm_penalty: they allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.ops._common.kernels import kernels_for
from fastgan.ops._common.layout import dense, in_order_of
from fastgan.ops._common.precision import compute_dtype


class Penalty(NamedTuple):
    """A penalty as a function of the norm of a gradient, as `gradient_norm_penalty` takes it."""

    weight: float
    target: float | None
    one_sided: bool


class KernelArgs(NamedTuple):
    """What a kernel is told besides the tensors: the penalty, and the scales of `penalised_input`."""

    weight: float
    target: float | None
    one_sided: bool
    scale: float = 1.0
    grad_scale: float = 1.0


_PENALTY = "float weight, float? target, bool one_sided"


def _forward(g: Tensor, weight: float, target: float | None, one_sided: bool, backend: str) -> tuple[Tensor, Tensor]:
    g = dense(g)  # whichever dense order that is, the samples are outermost
    penalty, norm = _per_sample(g), _per_sample(g)
    args = KernelArgs(weight, target, one_sided)
    kernels_for("gradient_norm_penalty", backend).forward(g, None, None, (None, penalty, norm), args)
    return penalty, norm


def _grad(
    p: Tensor, g: Tensor, norm: Tensor, weight: float, target: float | None, one_sided: bool, backend: str
) -> Tensor:
    g = dense(g)
    dg = allocation.empty_like(g)
    args = KernelArgs(weight, target, one_sided)
    kernels_for("gradient_norm_penalty", backend).grad(p.contiguous(), g, norm, dg, args)
    return dg


def _penalised_input(
    g: Tensor, x: Tensor, s: Tensor | None,
    weight: float, target: float | None, one_sided: bool, scale: float, grad_scale: float, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    x = dense(x)
    g = in_order_of(g, x)
    s = None if s is None else s.to(compute_dtype(x)).contiguous()
    u, penalty, norm = allocation.empty_like(x), _per_sample(x), _per_sample(x)
    args = KernelArgs(weight, target, one_sided, scale, grad_scale)
    kernels_for("gradient_norm_penalty", backend).forward(g, x, s, (u, penalty, norm), args)
    return u, penalty, norm


def _per_sample(g: Tensor) -> Tensor:
    return allocation.empty((g.shape[0],), like=g, dtype=compute_dtype(g))


def _fake_per_sample(g: Tensor) -> Tensor:
    return g.new_empty((g.shape[0],), dtype=compute_dtype(g))


gradient_norm_penalty = define(
    f"gradient_norm_penalty(Tensor g, {_PENALTY}, str backend) -> (Tensor, Tensor)",
    _forward,
    lambda g, *rest: (_fake_per_sample(g), _fake_per_sample(g)),
)
gradient_norm_penalty_grad = define(
    f"gradient_norm_penalty_grad(Tensor p, Tensor g, Tensor norm, {_PENALTY}, str backend) -> Tensor",
    _grad,
    lambda p, g, *rest: torch.empty_like(dense(g)),
)
penalised_input = define(
    f"penalised_input(Tensor g, Tensor x, Tensor? s, {_PENALTY}, float scale, float grad_scale, str backend)"
    " -> (Tensor, Tensor, Tensor)",
    _penalised_input,
    lambda g, x, *rest: (torch.empty_like(dense(x)), _fake_per_sample(x), _fake_per_sample(x)),
)
