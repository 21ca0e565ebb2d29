"""The private operators of bias_act: allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd; fastgan/ops/bias_act.py differentiates them.
"""

import math
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops._common.layout import filled, like, outer_channels_inner
from fastgan.ops._common.precision import compute_dtype

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
    sizes = outer_channels_inner(x, dim)
    _kernels(backend).forward(x, b, y, sizes, act, alpha, gain, clamp)
    return y


def _grad(
    dy: Tensor, saved: Tensor | None, b: Tensor | None,
    dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str, bias_grad: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    order = filled(dy if saved is None else saved)
    dy, saved = like(dy, order), None if saved is None else order
    dx = allocation.empty_like(order)
    db = allocation.empty((dy.shape[dim] if bias_grad else 0,), like=dy, dtype=compute_dtype(dy))
    sizes = outer_channels_inner(order, dim)
    _kernels(backend).grad(dy, saved, b, dx, db if bias_grad else None, sizes, act, alpha, gain, clamp)
    return dx, db


def _grad2(
    u: Tensor, dy: Tensor, saved: Tensor, b: Tensor | None,
    dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str,
) -> Tensor:  # fmt: skip
    saved = filled(saved)
    u, dy = like(u, saved), like(dy, saved)
    t = allocation.empty_like(saved)
    sizes = outer_channels_inner(saved, dim)
    _kernels(backend).grad2(u, dy, saved, b, t, sizes, act, alpha, gain, clamp)
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


def _kernels(backend: str) -> Any:
    """The functions forward, grad and grad2 of a backend; they fill outputs that are allocated here."""
    if backend == "cpu":
        return _Cpu
    from fastgan.kernels import bias_act as triton_kernels  # imports triton: only when it is used

    return triton_kernels


class _Cpu:
    """Calls csrc/bias_act.cpp with addresses."""

    @staticmethod
    def forward(x: Tensor, b: Tensor | None, y: Tensor, sizes: tuple[int, int, int], *config: Any) -> None:
        b, args = _Cpu.bias(b, x), _Cpu.arguments(x, sizes, *config)
        E, n, of_b = x.dtype, math.prod(sizes), address(b, compute_dtype(x), sizes[1])
        extension().bias_act(address(x, E, n), of_b, address(y, E, n), args)

    @staticmethod
    def grad(
        dy: Tensor, s: Tensor | None, b: Tensor | None, dx: Tensor, db: Tensor | None, sizes: tuple[int, int, int],
        *config: Any,
    ) -> None:  # fmt: skip
        b, args = _Cpu.bias(b, dy), _Cpu.arguments(dy, sizes, *config)
        E, n, T, channels = dy.dtype, math.prod(sizes), compute_dtype(dy), sizes[1]
        extension().bias_act_grad(
            address(dy, E, n), address(s, E, n), address(b, T, channels), address(dx, E, n), address(db, T, channels),
            args,
        )  # fmt: skip

    @staticmethod
    def grad2(
        u: Tensor, dy: Tensor, s: Tensor, b: Tensor | None, t: Tensor, sizes: tuple[int, int, int], *config: Any
    ) -> None:
        b, args = _Cpu.bias(b, dy), _Cpu.arguments(dy, sizes, *config)
        E, n, of_b = dy.dtype, math.prod(sizes), address(b, compute_dtype(dy), sizes[1])
        extension().bias_act_grad2(address(u, E, n), address(dy, E, n), address(s, E, n), of_b, address(t, E, n), args)

    @staticmethod
    def bias(b: Tensor | None, x: Tensor) -> Tensor | None:
        return None if b is None else b.to(compute_dtype(x)).contiguous()

    @staticmethod
    def arguments(
        x: Tensor, sizes: tuple[int, int, int], act: str, alpha: float, gain: float, clamp: float | None
    ) -> Any:
        bound = math.nan if clamp is None else clamp  # no comparison with NaN holds: no clamp
        code, dtype = ACTIVATIONS[act].code, DTYPE_CODES[x.dtype]
        return extension().BiasActArgs(*sizes, code, alpha, gain, bound, dtype, torch.get_num_threads())
