"""Allocation of the outputs of ops, in one place so that the tests can fill fresh memory with NaN.

Functions are looked up on the module at each call (`allocation.empty_like(x)`), never imported by name.
"""

import ctypes
import functools
import os

import torch
from torch import Tensor

_LARGEST_THRESHOLD = 32 << 20  # DEFAULT_MMAP_THRESHOLD_MAX of glibc on 64 bits
_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD of <malloc.h>
_KEPT = 1 << 30


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


def keep_freed_memory() -> None:
    """Lets the C library's malloc keep for the next pass or kernel what one has freed, instead of returning it.

    glibc's maps large blocks apart, each anew, and returns the free end of its heap to the system. A step that frees
    every activation at once, or a kernel its scratch memory, otherwise pays a page fault for each 4 kB that the next
    one writes, which may take as long as the kernel: a fifth of a critic's step, PyTorch's own steps included.

    So blocks below 32 MB come from the heap (glibc raises that threshold to the largest mapped block that was ever
    freed: one of that size is mapped and freed here, untouched), and up to 1 GiB of its free end stays in the process.
    Nothing is changed where MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ or glibc's tunables for malloc are set, or
    where there is another C library; other allocators are not affected.
    """
    if not torch.compiler.is_compiling():  # which would trace what follows
        _keep_freed_memory()


@functools.cache
def _keep_freed_memory() -> None:
    torch.empty(_LARGEST_THRESHOLD - (64 << 10), dtype=torch.uint8)
    set_by_hand = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys()
    if set_by_hand or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if os.name == "posix" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)
