"""The private operators of frozen_bias_act: they allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them. `slope` is that of the
negative side: alpha, 0 for relu, 1 for linear.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.ops._common.kernels import kernels_for
from fastgan.ops._common.layout import by_sample, outer_channels_inner, sizes_in
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.bias_act.backends import KernelArgs
from fastgan.ops.frozen_bias_act.mask import bytes_of_mask, in_order


class FrozenConfig(NamedTuple):
    """The arguments of frozen_bias_act that are not tensors, with every default resolved."""

    order: tuple[int, ...]
    dim: int
    slope: float
    gain: float
    clamp: float | None
    constant: bool
    """Whether clamped elements have their constant, or are 0 as in a derivative."""
    backend: str


class FrozenArgs(NamedTuple):
    """What a kernel is told besides the tensors, whose memory it sees as layout = (outer, channels, inner).

    Derivatives read neither the value of `clamp`, only whether there is one, nor `constant`.
    """

    layout: tuple[int, int, int]
    slope: float
    gain: float
    clamp: float | None
    constant: bool


_FORWARD = "Tensor? b, int dim, str act, float alpha, float gain, float? clamp, str backend"


def fill(
    x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str
) -> tuple[Tensor, Tensor]:
    """y = bias_act(x, b) and the bits of its mask."""
    x = by_sample(x)
    y = allocation.empty_like(x)
    return y, _fill(x, b, y, KernelArgs(outer_channels_inner(x, dim), act, alpha, gain, clamp), backend)


def fill_in_place(
    x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str
) -> Tensor:
    """The bits of the mask; x becomes y."""
    y = by_sample(x)
    bits = _fill(y, b, y, KernelArgs(outer_channels_inner(y, dim), act, alpha, gain, clamp), backend)
    if y is not x:
        x.copy_(y)
    elif not x.is_inference():  # autograd must see that what it may have saved is overwritten
        torch.autograd.graph.increment_version(x)
    return bits


def _fill(x: Tensor, b: Tensor | None, y: Tensor, args: KernelArgs, backend: str) -> Tensor:
    bits = _empty_bits(x, args.clamp, allocation.empty)
    kernels_for("frozen_bias_act", backend).forward(x, b, y, bits, args)
    return bits


def _empty_bits(x: Tensor, clamp: float | None, empty: Any) -> Tensor:
    return empty((bytes_of_mask(x) * (1 if clamp is None else 2),), like=x, dtype=torch.uint8)


def _frozen(
    u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor,
    order: Sequence[int], dim: int, slope: float, gain: float, clamp: float | None, constant: bool, backend: str,
) -> Tensor:  # fmt: skip
    u = in_order(u, tuple(order))
    y = allocation.empty_like(u)
    args = FrozenArgs(sizes_in(tuple(order), u, dim), slope, gain, clamp, constant)
    kernels_for("frozen_bias_act", backend).frozen(u, b, s, bits, y, args)
    return y


def _frozen_in_place(
    u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor,
    order: Sequence[int], dim: int, slope: float, gain: float, clamp: float | None, constant: bool, backend: str,
) -> None:  # fmt: skip
    args = FrozenArgs(sizes_in(tuple(order), u, dim), slope, gain, clamp, constant)
    kernels_for("frozen_bias_act", backend).frozen(u, b, s, bits, u, args)


def _grad_in_place(
    dy: Tensor, s: Tensor | None, bits: Tensor,
    order: Sequence[int], dim: int, slope: float, gain: float, clamped: bool, backend: str, bias_grad: bool,
) -> Tensor:  # fmt: skip
    db = allocation.empty((dy.shape[dim] if bias_grad else 0,), like=dy, dtype=compute_dtype(dy))
    args = FrozenArgs(sizes_in(tuple(order), dy, dim), slope, gain, 0.0 if clamped else None, False)
    kernels_for("frozen_bias_act", backend).grad(dy, s, bits, dy, db if bias_grad else None, args)
    return db


def _grad(
    dy: Tensor, s: Tensor | None, bits: Tensor,
    order: Sequence[int], dim: int, slope: float, gain: float, clamped: bool, backend: str, bias_grad: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    dy = in_order(dy, tuple(order))
    du = allocation.empty_like(dy)
    db = allocation.empty((dy.shape[dim] if bias_grad else 0,), like=dy, dtype=compute_dtype(dy))
    args = FrozenArgs(sizes_in(tuple(order), dy, dim), slope, gain, 0.0 if clamped else None, False)
    kernels_for("frozen_bias_act", backend).grad(dy, s, bits, du, db if bias_grad else None, args)
    return du, db


def _new_empty(shape: tuple[int, ...], like: Tensor, dtype: torch.dtype) -> Tensor:
    return like.new_empty(shape, dtype=dtype)


def _fake_forward(x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float,
                  clamp: float | None, backend: str) -> tuple[Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(by_sample(x)), _empty_bits(x, clamp, _new_empty)


def _fake_grad(
    dy: Tensor, s: Tensor | None, bits: Tensor,
    order: Sequence[int], dim: int, slope: float, gain: float, clamped: bool, backend: str, bias_grad: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    db = dy.new_empty((dy.shape[dim] if bias_grad else 0,), dtype=compute_dtype(dy))
    return torch.empty_like(in_order(dy, tuple(order))), db


bias_act_with_mask = define(f"bias_act_with_mask(Tensor x, {_FORWARD}) -> (Tensor, Tensor)", fill, _fake_forward)
bias_act_with_mask_ = define(
    f"bias_act_with_mask_(Tensor(a!) x, {_FORWARD}) -> Tensor",
    fill_in_place,
    lambda x, b, dim, act, alpha, gain, clamp, backend: _empty_bits(x, clamp, _new_empty),
)
frozen_bias_act = define(
    "frozen_bias_act(Tensor u, Tensor? b, Tensor? s, Tensor bits, int[] order, int dim, float slope, float gain, "
    "float? clamp, bool constant, str backend) -> Tensor",
    _frozen,
    lambda u, b, s, bits, order, *rest: torch.empty_like(in_order(u, tuple(order))),
)
frozen_bias_act_grad = define(
    "frozen_bias_act_grad(Tensor dy, Tensor? s, Tensor bits, int[] order, int dim, float slope, float gain, "
    "bool clamped, str backend, bool bias_grad) -> (Tensor, Tensor)",
    _grad,
    _fake_grad,
)


# In place, for callers that own the tensor, which has the mask's memory order.
frozen_bias_act_ = define(
    "frozen_bias_act_(Tensor(a!) u, Tensor? b, Tensor? s, Tensor bits, int[] order, int dim, float slope, float gain, "
    "float? clamp, bool constant, str backend) -> ()",
    _frozen_in_place,
    lambda *args: None,
)
frozen_bias_act_grad_ = define(
    "frozen_bias_act_grad_(Tensor(a!) dy, Tensor? s, Tensor bits, int[] order, int dim, float slope, float gain, "
    "bool clamped, str backend, bool bias_grad) -> Tensor",
    _grad_in_place,
    lambda dy, s, bits, order, *rest: _fake_grad(dy, s, bits, order, *rest)[1],
)
