"""scaled_bias_act on the CPU: calls csrc/scaled_bias_act.cpp with addresses."""

import functools
import math
from typing import Any

import torch
from torch import Tensor

from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.activations import ACTIVATIONS, Activated
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.scaled_bias_act.backends import Coefficients


def forward(x: Tensor, coefficients: Coefficients, y: Tensor, activation: Activated) -> None:
    """y = clamp(gain f(x scale + strength noise + b))."""
    E, n, wide = x.dtype, x.numel(), _wide(coefficients, x)
    args = _args_in_c(x, coefficients.noise, activation)
    extension().scaled_bias_act(address(x, E, n), *_addresses(wide, x), address(y, E, n), args)


def grad(
    dy: Tensor, x: Tensor, coefficients: Coefficients, outputs: tuple[Tensor, Tensor], activation: Activated,
    unscaled: bool,
) -> None:  # fmt: skip
    """Fills dx = t scale (t itself where `unscaled`), and the sums [B, C, 3] of t x, t noise and t over the pixels."""
    E, n, wide, (dx, sums) = x.dtype, x.numel(), _wide(coefficients, x), outputs
    of_sums = address(sums, torch.float64, x.shape[0] * x.shape[1] * 3)
    inputs = address(dy, E, n), address(x, E, n), *_addresses(wide, x)
    args = _args_in_c(x, coefficients.noise, activation)
    extension().scaled_bias_act_grad(*inputs, address(dx, E, n), of_sums, unscaled, args)


def plane_dots(t: Tensor, w: Tensor, dots: Tensor) -> None:
    """dots [B, C] = the sums over the pixels of t times w, which may have one plane for all channels or samples."""
    (B, C), N = t.shape[:2], math.prod(t.shape[2:])
    channel_step = N if w.shape[1] != 1 else 0
    sample_step = N * w.shape[1] if w.shape[0] != 1 else 0
    extension().plane_dots(
        address(t, t.dtype, B * C * N), address(w, t.dtype, w.shape[0] * w.shape[1] * N),
        address(dots, torch.float64, B * C), B, C, N, sample_step, channel_step,
        DTYPE_CODES[t.dtype], torch.get_num_threads(),
    )  # fmt: skip


def _wide(coefficients: Coefficients, x: Tensor) -> list[Tensor | None]:
    """The coefficients in the dtype of the arithmetic."""
    return [None if t is None else t.to(compute_dtype(x)) for t in coefficients]


def _addresses(wide: list[Tensor | None], x: Tensor) -> list[int]:
    """Where scale, noise, strength and b lie, for kernels that work on x."""
    B, C = x.shape[:2]
    noise = wide[1]
    images = 1 if noise is None else noise.shape[0] * math.prod(x.shape[2:])
    return [address(t, compute_dtype(x), n) for t, n in zip(wide, (B * C, images, 1, C), strict=True)]


def _args_in_c(x: Tensor, noise: Tensor | None, activation: Activated) -> Any:
    """The struct ScaledBiasActArgs of csrc/scaled_bias_act.h."""
    sizes = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    per_sample = noise is not None and noise.shape[0] != 1
    return _cached_args(sizes, per_sample, activation, DTYPE_CODES[x.dtype], torch.get_num_threads())


@functools.lru_cache(1024)
def _cached_args(sizes: tuple[int, int, int], per_sample: bool, activation: Activated, dtype: int, threads: int) -> Any:
    """Made once for each layer and shape: a pybind object takes longer than a look-up."""
    act, alpha, gain, clamp = activation
    bound = math.nan if clamp is None else clamp  # no comparison with NaN holds: no clamp
    numbers = ACTIVATIONS[act].code, alpha, gain, bound
    return extension().ScaledBiasActArgs(*sizes, per_sample, *numbers, dtype, threads)
