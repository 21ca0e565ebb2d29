"""The private operators of modulated_conv2d: they allocate the outputs and call Triton's kernels.

They are opaque to torch.compile and know nothing of autograd: autograd.py differentiates them.
"""

from typing import Any

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.ops._common.activations import Activated
from fastgan.ops._common.kernels import kernels_for

_SMALL = "Tensor styles, Tensor scale, Tensor? noise, Tensor? strength, Tensor? b"


def _forward(
    x: Tensor, weight: Tensor, styles: Tensor, scale: Tensor, noise: Tensor | None, strength: Tensor | None,
    b: Tensor | None, act: str, alpha: float, gain: float, clamp: float | None, saves: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    x = x.contiguous(memory_format=torch.channels_last)
    y = _image(x, weight.shape[0])
    z = _image(x, weight.shape[0]) if saves else allocation.empty((0,), like=x)
    outputs, activation = (z if saves else None, y), Activated(act, alpha, gain, clamp)
    coefficients = tuple(None if t is None else t.contiguous() for t in (scale, noise, strength, b))
    kernels = kernels_for("modulated_conv2d", "triton")
    kernels.forward(x, weight, styles.contiguous(), coefficients, outputs, activation)
    return y, z


def _data_grad(dz: Tensor, weight: Tensor, x: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
    dz, x = (t.contiguous(memory_format=torch.channels_last) for t in (dz, x))
    dx = _image(x, x.shape[1])
    dstyles = allocation.empty(tuple(x.shape[:2]), like=x, dtype=torch.float64)
    kernels_for("modulated_conv2d", "triton").data_grad(dz, weight, x, styles.contiguous(), dx, dstyles)
    return dx, dstyles


def _image(x: Tensor, channels: int) -> Tensor:
    """Uninitialised memory for an image of the size of x, channels_last whatever its sizes."""
    B, _, H, W = x.shape
    return allocation.empty((B, channels, H, W), like=x, memory_format=torch.channels_last)


def _fake_forward(x: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    y = _image(x, weight.shape[0])
    return y, torch.empty_like(y) if rest[-1] else x.new_empty((0,))


def _fake_data_grad(dz: Tensor, weight: Tensor, x: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
    return _image(x, x.shape[1]), x.new_empty(tuple(x.shape[:2]), dtype=torch.float64)


modulated_conv2d = define(
    f"modulated_conv2d(Tensor x, Tensor weight, {_SMALL}, str act, float alpha, float gain, float? clamp, bool saves) "
    "-> (Tensor, Tensor)",
    _forward,
    _fake_forward,
)
modulated_conv2d_data_grad = define(
    "modulated_conv2d_data_grad(Tensor dz, Tensor weight, Tensor x, Tensor styles) -> (Tensor, Tensor)",
    _data_grad,
    _fake_data_grad,
)
