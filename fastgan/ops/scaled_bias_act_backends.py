"""The private operators of scaled_bias_act: allocate the outputs and call a backend's kernels.

They are opaque to torch.compile and know nothing of autograd; fastgan/ops/scaled_bias_act.py differentiates them.
"""

import math
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops._common.layout import dense, like
from fastgan.ops._common.precision import compute_dtype

_TENSORS = "Tensor x, Tensor scale, Tensor? noise, Tensor? strength, Tensor? b"
_ARGUMENTS = f"{_TENSORS}, str act, float alpha, float gain, float? clamp, str backend"


def _forward(
    x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    act: str, alpha: float, gain: float, clamp: float | None, backend: str,
) -> Tensor:  # fmt: skip
    x = _ordered(x, backend)
    y = allocation.empty_like(x)
    _kernels(backend).forward(x, *_contiguous(scale, noise, strength, b), y, act, alpha, gain, clamp)
    return y


def _grad(
    dy: Tensor, x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    act: str, alpha: float, gain: float, clamp: float | None, backend: str, unscaled: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    x = _ordered(x, backend)
    dy = like(dy, x)
    dx = allocation.empty_like(x)
    sums = allocation.empty((*x.shape[:2], 3), like=x, dtype=torch.float64)
    small = _contiguous(scale, noise, strength, b)
    _kernels(backend).grad(dy, x, *small, dx, sums, unscaled, act, alpha, gain, clamp)
    return dx, sums


def _plane_dots(t: Tensor, w: Tensor, backend: str) -> Tensor:
    if backend != "cpu":  # a GPU sums in double without a copy of the terms in double
        product = t.to(compute_dtype(t)) * w
        return product.sum(tuple(range(2, t.ndim)), dtype=torch.float64)
    t, w = t.contiguous(), w.contiguous()
    (B, C), N = t.shape[:2], math.prod(t.shape[2:])
    # w has a plane for every sample and channel, or one for each of the samples or for all of them.
    channel_step = N if w.shape[1] != 1 else 0
    sample_step = N * w.shape[1] if w.shape[0] != 1 else 0
    dots = allocation.empty((B, C), like=t, dtype=torch.float64)
    extension().plane_dots(
        address(t, t.dtype, B * C * N), address(w, t.dtype, w.shape[0] * w.shape[1] * N),
        address(dots, torch.float64, B * C), B, C, N, sample_step, channel_step,
        DTYPE_CODES[t.dtype], torch.get_num_threads(),
    )  # fmt: skip
    return dots


def _ordered(x: Tensor, backend: str) -> Tensor:
    """x in a memory order that the backend takes: the CPU's kernels work on planes."""
    return x.contiguous() if backend == "cpu" else dense(x)


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in tensors]


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


def _kernels(backend: str) -> Any:
    """The functions forward and grad of a backend; they fill outputs that are allocated here."""
    if backend == "cpu":
        return _Cpu
    from fastgan.kernels import scaled_bias_act as triton_kernels  # imports triton: only when it is used

    return triton_kernels


class _Cpu:
    """Calls csrc/scaled_bias_act.cpp with addresses."""

    @staticmethod
    def forward(x: Tensor, scale: Tensor, noise: Tensor | None, *rest: Any) -> None:
        strength, b, y, *config = rest
        small = _Cpu.prepared(x, scale, noise, strength, b)
        E, n, args = x.dtype, x.numel(), _Cpu.arguments(x, noise, *config)
        extension().scaled_bias_act(address(x, E, n), *_Cpu.addresses(x, small), address(y, E, n), args)

    @staticmethod
    def grad(dy: Tensor, x: Tensor, scale: Tensor, noise: Tensor | None, *rest: Any) -> None:
        strength, b, dx, sums, unscaled, *config = rest
        small = _Cpu.prepared(x, scale, noise, strength, b)
        E, n, args = x.dtype, x.numel(), _Cpu.arguments(x, noise, *config)
        of_sums = address(sums, torch.float64, x.shape[0] * x.shape[1] * 3)
        extension().scaled_bias_act_grad(
            address(dy, E, n), address(x, E, n), *_Cpu.addresses(x, small), address(dx, E, n), of_sums, unscaled, args
        )

    @staticmethod
    def prepared(x: Tensor, *tensors: Tensor | None) -> list[Tensor | None]:
        """The small tensors in the type of the arithmetic."""
        return [None if t is None else t.to(compute_dtype(x)) for t in tensors]

    @staticmethod
    def addresses(x: Tensor, prepared: list[Tensor | None]) -> list[int]:
        """Where scale, noise, strength and b lie, which were prepared for x."""
        B, C = x.shape[:2]
        noise = prepared[1]
        images = 1 if noise is None else noise.shape[0] * math.prod(x.shape[2:])
        counts = (B * C, images, 1, C)
        return [address(t, compute_dtype(x), n) for t, n in zip(prepared, counts, strict=True)]

    @staticmethod
    def arguments(x: Tensor, noise: Tensor | None, act: str, alpha: float, gain: float, clamp: float | None) -> Any:
        B, C = x.shape[:2]
        per_sample = noise is not None and noise.shape[0] != 1
        bound = math.nan if clamp is None else clamp  # no comparison with NaN holds: no clamp
        return extension().ScaledBiasActArgs(
            B, C, math.prod(x.shape[2:]), per_sample, ACTIVATIONS[act].code, alpha, gain, bound,
            DTYPE_CODES[x.dtype], torch.get_num_threads(),
        )  # fmt: skip
