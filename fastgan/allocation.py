"""The one place where the ops allocate their outputs, so that the tests can fill fresh memory with NaN.

Functions are looked up on the module at each call (`allocation.empty_like(x)`), never imported by name.
"""

import torch
from torch import Tensor


def empty_like(x: Tensor) -> Tensor:
    """Uninitialised memory with the shape, dtype, device and dense strides of x."""
    return torch.empty_like(x)


def empty(shape: tuple[int, ...], *, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised contiguous memory on the device of `like`, in its dtype unless another is named."""
    return like.new_empty(shape, dtype=dtype)
