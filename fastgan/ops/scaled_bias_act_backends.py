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
from fastgan.ops.activations import ACTIVATIONS
from fastgan.ops.precision import compute_dtype

_TENSORS = "Tensor x, Tensor scale, Tensor? noise, Tensor? strength, Tensor? b"
_ARGUMENTS = f"{_TENSORS}, str act, float alpha, float gain, float? clamp, str backend"


def _forward(
    x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    act: str, alpha: float, gain: float, clamp: float | None, backend: str,
) -> Tensor:  # fmt: skip
    x = x.contiguous()
    y = allocation.empty_like(x)
    small = _prepared(x, scale, noise, strength, b)
    args = _cpu_arguments(x, noise, act, alpha, gain, clamp)
    extension().scaled_bias_act(x.data_ptr(), *map(address, small), y.data_ptr(), args)
    return y


def _grad(
    dy: Tensor, x: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None, b: Tensor | None,
    act: str, alpha: float, gain: float, clamp: float | None, backend: str, unscaled: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    dy, x = dy.contiguous(), x.contiguous()
    dx = allocation.empty_like(x)
    sums = allocation.empty((*x.shape[:2], 3), like=x, dtype=torch.float64)
    small = _prepared(x, scale, noise, strength, b)
    args = _cpu_arguments(x, noise, act, alpha, gain, clamp)
    extension().scaled_bias_act_grad(
        dy.data_ptr(), x.data_ptr(), *map(address, small), dx.data_ptr(), sums.data_ptr(), unscaled, args
    )
    return dx, sums


def _prepared(x: Tensor, *tensors: Tensor | None) -> list[Tensor | None]:
    """The small tensors in the type of the arithmetic."""
    dtype = compute_dtype(x)
    return [None if t is None else t.to(dtype).contiguous() for t in tensors]


def _cpu_arguments(x: Tensor, noise: Tensor | None, act: str, alpha: float, gain: float, clamp: float | None) -> Any:
    B, C = x.shape[:2]
    per_sample = noise is not None and noise.shape[0] != 1
    bound = math.nan if clamp is None else clamp  # no comparison with NaN holds: no clamp
    return extension().ScaledBiasActArgs(
        B, C, math.prod(x.shape[2:]), per_sample, ACTIVATIONS[act].code, alpha, gain, bound,
        DTYPE_CODES[x.dtype], torch.get_num_threads(),
    )  # fmt: skip


def _contiguous_like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


scaled_bias_act = define(f"scaled_bias_act({_ARGUMENTS}) -> Tensor", _forward, lambda x, *rest: _contiguous_like(x))
scaled_bias_act_grad = define(
    f"scaled_bias_act_grad(Tensor dy, {_ARGUMENTS}, bool unscaled) -> (Tensor, Tensor)",
    _grad,
    lambda dy, x, *rest: (_contiguous_like(x), x.new_empty((*x.shape[:2], 3), dtype=torch.float64)),
)
