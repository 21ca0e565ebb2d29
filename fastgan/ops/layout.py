"""Memory order: seeing a tensor as [outer, channels, inner] without a copy where that is possible."""

import torch
from torch import Tensor

from fastgan import allocation


def dense(x: Tensor, dim: int) -> Tensor:
    """x itself if it is contiguous (or channels_last and dim = 1), else a copy that is."""
    if x.is_contiguous() or (dim == 1 and is_channels_last(x)):
        return x
    if dim == 1:  # a slice of a channels_last tensor stays channels_last, as in torch's own operators
        copy = x.clone(memory_format=torch.preserve_format)
        if is_channels_last(copy):
            return copy
    return x.contiguous()


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels (dimension 1 of an image or a volume) are neighbours in memory."""
    return (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)) or (
        x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    )


def like(x: Tensor, order: Tensor) -> Tensor:
    """x in the memory order of the dense tensor `order`, which has its shape."""
    return x if x.stride() == order.stride() else allocation.empty_like(order).copy_(x)


def empty_image(channels: int, height: int, width: int, order: Tensor) -> Tensor:
    """Uninitialised memory for the batch of the dense tensor `order`, [B, C, H, W], in its memory order."""
    memory_format = torch.contiguous_format if order.is_contiguous() else torch.channels_last
    return allocation.empty((order.shape[0], channels, height, width), like=order, memory_format=memory_format)


def outer_channels_inner(x: Tensor, dim: int) -> tuple[int, int, int]:
    """The three sizes of a `dense` tensor in memory order; channels_last has inner = 1."""
    channels = x.shape[dim]
    inner = 1
    if x.is_contiguous():
        for size in x.shape[dim + 1 :]:
            inner *= size
    return x.numel() // max(channels * inner, 1), channels, inner


def along(b: Tensor, dim: int, ndim: int) -> Tensor:
    """b, one value for each index of dimension `dim`, shaped to broadcast against `ndim` dimensions."""
    return b.view([-1 if i == dim else 1 for i in range(ndim)])
