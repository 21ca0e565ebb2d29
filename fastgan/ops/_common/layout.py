"""The order of a tensor's elements in memory: what the kernels take without a copy, and what PyTorch's results have."""

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.native import fills_its_memory


def filled(x: Tensor) -> Tensor:
    """x itself if its elements fill their memory, in whatever order; else a copy, strided as PyTorch's elementwise
    results of x are."""
    return x if fills_its_memory(x) else x.clone(memory_format=torch.preserve_format)


def by_sample(x: Tensor) -> Tensor:
    """x itself if it is `filled` and one sample comes after the other, samples in dimension 0; else a copy that is."""
    if x.is_contiguous():
        return x
    copy = filled(x)
    order = memory_order(copy)
    return copy if all(copy.shape[d] == 1 for d in order[: order.index(0)]) else copy.contiguous()


def dense(x: Tensor) -> Tensor:
    """x itself if it is contiguous or channels_last, else a copy that is."""
    if x.is_contiguous() or is_channels_last(x):
        return x
    # A slice of a channels_last tensor stays channels_last, as in torch's own kernels.
    copy = x.clone(memory_format=torch.preserve_format)
    return copy if is_channels_last(copy) else x.contiguous()


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels (dimension 1 of an image or a volume) are neighbours in memory."""
    return (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)) or (
        x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    )


def suggests_channels_last(x: Tensor) -> bool:
    """Whether PyTorch takes an image or its filters, by their strides, for channels_last: where one size is 1 it may be
    contiguous as well, and a slice is neither. A convolution of such images, or by such filters, returns such images.

    `is_channels_last_strides_2d` of PyTorch's c10/core/MemoryFormat.h.
    """
    (_, C, H, W), (b, c, h, w) = x.shape, x.stride()
    if x.numel() == 0 or c == 0 or w < c * C or h < w * W or b < h * H or h * H == c:  # noqa: SIM103
        return False
    return True  # decided: to torch.compile a comparison of sizes may be a symbol


def in_order_of(x: Tensor, order: Tensor) -> Tensor:
    """x in the memory order of the dense tensor `order`, which has its shape."""
    return x if x.stride() == order.stride() else allocation.empty_like(order).copy_(x)


def empty_image(channels: int, height: int, width: int, order: Tensor) -> Tensor:
    """Uninitialised memory for the batch of the dense tensor `order`, [B, C, H, W], in its memory order."""
    return empty_images((order.shape[0], channels, height, width), not order.is_contiguous(), order)


def empty_images(shape: tuple[int, int, int, int], channels_last: bool, like: Tensor) -> Tensor:
    """Uninitialised memory in that memory format."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return allocation.empty(shape, like=like, memory_format=memory_format)


def memory_order(x: Tensor) -> tuple[int, ...]:
    """The dimensions of a `filled` tensor from the outermost to the innermost in memory."""
    if x.is_contiguous():
        return tuple(range(x.ndim))
    return tuple(sorted(range(x.ndim), key=x.stride, reverse=True))


def outer_channels_inner(x: Tensor, dim: int) -> tuple[int, int, int]:
    """A `filled` tensor seen as three dimensions in memory order, of which dimension `dim` is the second."""
    order = memory_order(x)
    return sizes_in(order, x, dim)


def sizes_in(order: tuple[int, ...], x: Tensor, dim: int) -> tuple[int, int, int]:
    """outer, channels and inner of a tensor in that memory order."""
    inner = 1
    for d in order[order.index(dim) + 1 :]:
        inner *= x.shape[d]
    return x.numel() // max(x.shape[dim] * inner, 1), x.shape[dim], inner


def along(b: Tensor, dim: int, ndim: int) -> Tensor:
    """b, one value for each index of dimension `dim`, shaped to broadcast against `ndim` dimensions."""
    return b.view([-1 if i == dim else 1 for i in range(ndim)])
