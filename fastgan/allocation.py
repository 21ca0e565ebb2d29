"""Allocation of the outputs of ops, in one place so that the tests can fill fresh memory with NaN.

Functions are looked up on the module at each call (`allocation.empty_like(x)`), never imported by name.
"""

import functools

import torch
from torch import Tensor

_LARGEST_THRESHOLD = 32 << 20  # DEFAULT_MMAP_THRESHOLD_MAX of glibc on 64 bits


def empty_like(x: Tensor) -> Tensor:
    """Uninitialised memory with the shape, dtype, device and dense strides of x."""
    return torch.empty_like(x)


def empty(
    shape: tuple[int, ...],
    *,
    like: Tensor,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Uninitialised memory on the device of `like`, in its dtype unless another is named.

    In the memory format that it is to have: permuted afterwards it would be a view, and autograd refuses to change in
    place what a Function returned as a view.
    """
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=memory_format)


@functools.cache
def keep_freed_memory() -> None:
    """Lets the C library's malloc keep for the next pass or kernel what one has freed, instead of returning it.

    glibc returns the free end of its heap when that exceeds twice its threshold for mapping blocks apart, and raises
    the threshold to the size of the largest mapped block that was ever freed, up to 32 MB. A pass that frees every
    activation at once, or a kernel its scratch memory, otherwise pays a page fault for each 4 kB that the next one
    writes, which may take as long as the kernel. So one block of that size is mapped and freed here, untouched, before
    the first kernel runs. Other allocators, and thresholds set by hand, are not affected.
    """
    torch.empty(_LARGEST_THRESHOLD - (64 << 10), dtype=torch.uint8)
