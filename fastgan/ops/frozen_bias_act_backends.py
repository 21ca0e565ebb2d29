"""The private operators of frozen_bias_act: allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd; fastgan/ops/frozen_bias_act.py differentiates them.
`slope` is that of the negative side: alpha, 0 for relu, 1 for linear.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops._common.layout import by_sample, outer_channels_inner, sizes_in
from fastgan.ops.activation_mask import bytes_of_mask, in_order

_FORWARD = "Tensor? b, int dim, str act, float alpha, float gain, float? clamp, str backend"


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the arithmetic on tensors of `dtype`, and of their bias gradients."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def fill(
    x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str
) -> tuple[Tensor, Tensor]:
    x = by_sample(x)
    y = allocation.empty_like(x)
    return y, _fill(x, b, y, dim, act, alpha, gain, clamp, backend)


def fill_in_place(
    x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str
) -> Tensor:
    y = by_sample(x)
    bits = _fill(y, b, y, dim, act, alpha, gain, clamp, backend)
    if y is not x:
        x.copy_(y)
    elif not x.is_inference():  # autograd must see that what it may have saved is overwritten
        torch.autograd.graph.increment_version(x)
    return bits


def _fill(
    x: Tensor, b: Tensor | None, y: Tensor,
    dim: int, act: str, alpha: float, gain: float, clamp: float | None, backend: str,
) -> Tensor:  # fmt: skip
    bits = _empty_bits(x, clamp, allocation.empty)
    kernels_of(backend).forward(x, b, y, bits, outer_channels_inner(x, dim), act, alpha, gain, clamp)
    return bits


def _empty_bits(x: Tensor, clamp: float | None, empty: Any) -> Tensor:
    return empty((bytes_of_mask(x) * (1 if clamp is None else 2),), like=x, dtype=torch.uint8)


def _frozen(
    u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor,
    order: Sequence[int], dim: int, slope: float, gain: float, clamp: float | None, constant: bool, backend: str,
) -> Tensor:  # fmt: skip
    u = in_order(u, tuple(order))
    y = allocation.empty_like(u)
    kernels_of(backend).frozen(u, b, s, bits, y, sizes_in(tuple(order), u, dim), slope, gain, clamp, constant)
    return y


def _frozen_in_place(
    u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor,
    order: Sequence[int], dim: int, slope: float, gain: float, clamp: float | None, constant: bool, backend: str,
) -> None:  # fmt: skip
    kernels_of(backend).frozen(u, b, s, bits, u, sizes_in(tuple(order), u, dim), slope, gain, clamp, constant)


def _grad_in_place(
    dy: Tensor, s: Tensor | None, bits: Tensor,
    order: Sequence[int], dim: int, slope: float, gain: float, clamped: bool, backend: str, bias_grad: bool,
) -> Tensor:  # fmt: skip
    db = allocation.empty((dy.shape[dim] if bias_grad else 0,), like=dy, dtype=compute_dtype(dy.dtype))
    kernels_of(backend).grad(
        dy, s, bits, dy, db if bias_grad else None, sizes_in(tuple(order), dy, dim), slope, gain, clamped
    )
    return db


def _grad(
    dy: Tensor, s: Tensor | None, bits: Tensor,
    order: Sequence[int], dim: int, slope: float, gain: float, clamped: bool, backend: str, bias_grad: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    dy = in_order(dy, tuple(order))
    du = allocation.empty_like(dy)
    db = allocation.empty((dy.shape[dim] if bias_grad else 0,), like=dy, dtype=compute_dtype(dy.dtype))
    kernels_of(backend).grad(
        dy, s, bits, du, db if bias_grad else None, sizes_in(tuple(order), dy, dim), slope, gain, clamped
    )
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
    db = dy.new_empty((dy.shape[dim] if bias_grad else 0,), dtype=compute_dtype(dy.dtype))
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


def kernels_of(backend: str) -> Any:
    """The functions forward, frozen and grad of a backend; they fill outputs that are allocated here."""
    if backend == "cpu":
        return _Cpu
    from fastgan.kernels import frozen_bias_act as triton_kernels  # imports triton: only when it is used

    return triton_kernels


class _Cpu:
    """Calls csrc/frozen_bias_act.cpp with addresses."""

    @staticmethod
    def forward(x: Tensor, b: Tensor | None, y: Tensor, bits: Tensor, sizes: tuple[int, int, int], act: str,
                alpha: float, gain: float, clamp: float | None) -> None:  # fmt: skip
        b = _Cpu.wide(b, x)
        args = _Cpu.arguments(x, sizes, act, alpha, gain, math.nan if clamp is None else clamp)
        E, n, of_b = x.dtype, x.numel(), address(b, compute_dtype(x.dtype), sizes[1])
        of_bits = address(bits, torch.uint8, bytes_of_mask(x) * (1 if clamp is None else 2))
        extension().bias_act_with_mask(address(x, E, n), of_b, address(y, E, n), of_bits, args)

    @staticmethod
    def frozen(u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor, y: Tensor, sizes: tuple[int, int, int],
               slope: float, gain: float, clamp: float | None, constant: bool) -> None:  # fmt: skip
        b, s, samples = _Cpu.wide(b, u), _Cpu.wide(s, u), _Cpu.samples(s)
        args = _Cpu.arguments(u, sizes, "lrelu", slope, gain, math.nan if clamp is None else clamp)
        E, T, n = u.dtype, compute_dtype(u.dtype), u.numel()
        of_bits = address(bits, torch.uint8, bytes_of_mask(u) * (1 if clamp is None else 2))
        extension().frozen_bias_act(
            address(u, E, n), address(b, T, sizes[1]), address(s, T, samples), of_bits, address(y, E, n), samples,
            constant, args,
        )  # fmt: skip

    @staticmethod
    def grad(dy: Tensor, s: Tensor | None, bits: Tensor, du: Tensor, db: Tensor | None, sizes: tuple[int, int, int],
             slope: float, gain: float, clamped: bool) -> None:  # fmt: skip
        s, samples = _Cpu.wide(s, dy), _Cpu.samples(s)
        # A number here says only that there is a second plane: no clamp's value enters a derivative.
        args = _Cpu.arguments(dy, sizes, "lrelu", slope, gain, 0.0 if clamped else math.nan)
        E, T, n = dy.dtype, compute_dtype(dy.dtype), dy.numel()
        of_bits = address(bits, torch.uint8, bytes_of_mask(dy) * (2 if clamped else 1))
        extension().frozen_bias_act_grad(
            address(dy, E, n), address(s, T, samples), of_bits, address(du, E, n), address(db, T, sizes[1]), samples,
            args,
        )  # fmt: skip

    @staticmethod
    def samples(s: Tensor | None) -> int:
        return 1 if s is None else s.numel()

    @staticmethod
    def wide(values: Tensor | None, x: Tensor) -> Tensor | None:
        return None if values is None else values.to(compute_dtype(x.dtype)).contiguous()

    @staticmethod
    def arguments(x: Tensor, sizes: tuple[int, int, int], act: str, alpha: float, gain: float, clamp: float) -> Any:
        return _arguments(sizes, act, alpha, gain, clamp, DTYPE_CODES[x.dtype], torch.get_num_threads())


@functools.lru_cache(1024)
def _arguments(
    sizes: tuple[int, int, int], act: str, alpha: float, gain: float, clamp: float, dtype: int, threads: int
) -> Any:
    return extension().BiasActArgs(*sizes, ACTIVATIONS[act].code, alpha, gain, clamp, dtype, threads)
