"""interpolate in plain PyTorch, and its weights."""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common import philox
from fastgan.ops._common.precision import compute_dtype


def interpolate_reference(x: Tensor, y: Tensor, seed: int | Tensor) -> Tensor:
    """`interpolate` in plain PyTorch."""
    e = interpolation_weights(seed, x.shape[0], x.device).to(compute_dtype(x))
    e = e.view(-1, *[1] * (x.ndim - 1))
    return (e * x + (1 - e) * y).to(x.dtype)


def interpolation_weights(seed: int | Tensor, samples: int, device: torch.device | str | None = None) -> Tensor:
    """The weights e_i that `interpolate` draws for a seed.

    Philox4x32-10 with the seed as key and i as counter: `tl.rand(seed, i)` of Triton, bit for bit.

    Args:
        seed: as for `interpolate`.
        samples: how many.
        device: where; default the device of a seed tensor, otherwise the CPU.

    Returns:
        [samples] in float32.

    Raises:
        TypeError, ValueError: as `interpolate`.
    """
    if device is None:
        device = seed.device if isinstance(seed, Tensor) else "cpu"
    return philox.uniform(seed_tensor("interpolation_weights", seed, torch.device(device)), samples)


def seed_tensor(op: str, seed: Any, device: torch.device) -> Tensor:
    """The seed as an int64 tensor of one element on the device."""
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64:
            raise TypeError(f"{op}: seed is {seed.dtype}, expected an int or an int64 tensor")
        if seed.numel() != 1:
            raise ValueError(f"{op}: seed has shape {list(seed.shape)}, expected one element")
        if seed.device.type != device.type or device.index not in (None, seed.device.index):
            raise ValueError(f"{op}: seed is on {seed.device}, expected {device}")
        return seed
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"{op}: seed is {type(seed).__name__}, expected an int or an int64 tensor")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"{op}: seed is {seed}, expected -2**63 <= seed < 2**63")
    return torch.full((1,), seed, dtype=torch.int64, device=device)  # a kernel, not a copy that would synchronise
