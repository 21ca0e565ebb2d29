"""The private operators of scaled_bias_act: they allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.ops._common.activations import Activated
from fastgan.ops._common.kernels import kernels_for
from fastgan.ops._common.layout import dense, in_order_of
from fastgan.ops._common.precision import compute_dtype


class ScaledBiasActConfig(NamedTuple):
    """The arguments of scaled_bias_act that are not tensors, with every default resolved."""

    act: str
    alpha: float
    gain: float
    clamp: float | None
    backend: str


class Coefficients(NamedTuple):
    """What x is multiplied by and what is added to it: x * scale + strength * noise + b."""

    scale: Tensor
    noise: Tensor | None
    strength: Tensor | None
    b: Tensor | None


_TENSORS = "Tensor x, Tensor scale, Tensor? noise, Tensor? strength, Tensor? b"
_ARGUMENTS = f"{_TENSORS}, str act, float alpha, float gain, float? clamp, str backend"


def _forward(
    x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    act: str, alpha: float, gain: float, clamp: float | None, backend: str,
) -> Tensor:  # fmt: skip
    x = _ordered(x, backend)
    y = allocation.empty_like(x)
    coefficients = _contiguous(scale, noise, strength, b)
    kernels_for("scaled_bias_act", backend).forward(x, coefficients, y, Activated(act, alpha, gain, clamp))
    return y


def _grad(
    dy: Tensor, x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    act: str, alpha: float, gain: float, clamp: float | None, backend: str, unscaled: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    x = _ordered(x, backend)
    dy = in_order_of(dy, x)
    dx = allocation.empty_like(x)
    sums = allocation.empty((*x.shape[:2], 3), like=x, dtype=torch.float64)
    coefficients, activation = _contiguous(scale, noise, strength, b), Activated(act, alpha, gain, clamp)
    kernels_for("scaled_bias_act", backend).grad(dy, x, coefficients, (dx, sums), activation, unscaled)
    return dx, sums


def _plane_dots(t: Tensor, w: Tensor, backend: str) -> Tensor:
    if backend != "cpu":  # a GPU sums in double without a copy of the terms in double
        product = t.to(compute_dtype(t)) * w
        return product.sum(tuple(range(2, t.ndim)), dtype=torch.float64)
    dots = allocation.empty(tuple(t.shape[:2]), like=t, dtype=torch.float64)
    kernels_for("scaled_bias_act", backend).plane_dots(t.contiguous(), w.contiguous(), dots)
    return dots


def _ordered(x: Tensor, backend: str) -> Tensor:
    """x in a memory order that the backend takes: the CPU's kernels work on planes."""
    return x.contiguous() if backend == "cpu" else dense(x)


def _contiguous(scale: Tensor, *optional: Tensor | None) -> Coefficients:
    noise, strength, b = (None if t is None else t.contiguous() for t in optional)
    return Coefficients(scale.contiguous(), noise, strength, b)


def _fake_forward(x: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(_ordered(x, rest[-1]))


def _fake_grad(dy: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _fake_forward(x, *rest[:-1]), x.new_empty((*x.shape[:2], 3), dtype=torch.float64)


scaled_bias_act = define(f"scaled_bias_act({_ARGUMENTS}) -> Tensor", _forward, _fake_forward)
scaled_bias_act_grad = define(
    f"scaled_bias_act_grad(Tensor dy, {_ARGUMENTS}, bool unscaled) -> (Tensor, Tensor)", _grad, _fake_grad
)
plane_dots = define(
    "plane_dots(Tensor t, Tensor w, str backend) -> Tensor",
    _plane_dots,
    lambda t, w, backend: t.new_empty(t.shape[:2], dtype=torch.float64),
)
