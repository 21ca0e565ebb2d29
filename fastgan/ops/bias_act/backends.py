"""The private operators of bias_act: they allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.ops._common.kernels import kernels_for
from fastgan.ops._common.layout import filled, in_order_of, outer_channels_inner
from fastgan.ops._common.precision import compute_dtype


class BiasActConfig(NamedTuple):
    """The arguments of bias_act that are not tensors, with every default resolved."""

    dim: int
    act: str
    alpha: float
    gain: float
    clamp: float | None
    backend: str


class KernelArgs(NamedTuple):
    """What a kernel is told besides the tensors, whose memory it sees as layout = (outer, channels, inner).

    A tuple and no dataclass: one is made for each call, and of a small tensor a call takes some microseconds.
    """

    layout: tuple[int, int, int]
    act: str
    alpha: float
    gain: float
    clamp: float | None


_ARGUMENTS = "int dim, str act, float alpha, float gain, float? clamp, str backend"


def _forward(
    x: Tensor,
    b: Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    backend: str,
) -> Tensor:
    x = filled(x)
    y = allocation.empty_like(x)
    args = KernelArgs(outer_channels_inner(x, dim), act, alpha, gain, clamp)
    kernels_for("bias_act", backend).forward(x, b, y, args)
    return y


def _grad(
    dy: Tensor, saved: Tensor | None, b: Tensor | None,
    dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str, bias_grad: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    order = filled(dy if saved is None else saved)
    dy, saved = in_order_of(dy, order), None if saved is None else order
    dx = allocation.empty_like(order)
    db = allocation.empty((dy.shape[dim] if bias_grad else 0,), like=dy, dtype=compute_dtype(dy))
    args = KernelArgs(outer_channels_inner(order, dim), act, alpha, gain, clamp)
    kernels_for("bias_act", backend).grad(dy, saved, b, dx, db if bias_grad else None, args)
    return dx, db


def _grad2(
    u: Tensor, dy: Tensor, saved: Tensor, b: Tensor | None,
    dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str,
) -> Tensor:  # fmt: skip
    saved = filled(saved)
    u, dy = in_order_of(u, saved), in_order_of(dy, saved)
    t = allocation.empty_like(saved)
    args = KernelArgs(outer_channels_inner(saved, dim), act, alpha, gain, clamp)
    kernels_for("bias_act", backend).grad2(u, dy, saved, b, t, args)
    return t


def _fake_grad(
    dy: Tensor, saved: Tensor | None, b: Tensor | None,
    dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str, bias_grad: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    db = dy.new_empty((dy.shape[dim] if bias_grad else 0,), dtype=compute_dtype(dy))
    return torch.empty_like(filled(dy if saved is None else saved)), db


bias_act = define(
    f"bias_act(Tensor x, Tensor? b, {_ARGUMENTS}) -> Tensor",
    _forward,
    lambda x, *rest: torch.empty_like(filled(x)),
)
bias_act_grad = define(
    f"bias_act_grad(Tensor dy, Tensor? saved, Tensor? b, {_ARGUMENTS}, bool bias_grad) -> (Tensor, Tensor)",
    _grad,
    _fake_grad,
)
bias_act_grad2 = define(
    f"bias_act_grad2(Tensor u, Tensor dy, Tensor saved, Tensor? b, {_ARGUMENTS}) -> Tensor",
    _grad2,
    lambda u, dy, saved, *rest: torch.empty_like(filled(saved)),
)
