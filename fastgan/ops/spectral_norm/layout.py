"""Weights as the matrices of csrc/spectral_norm.h: the dimension of memory that the rows are, and v in memory order."""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """A weight that is dense in memory, seen as [A, h, B] there.

    Attributes:
        A, h, B: the sizes before, of and after the dimension of the rows, in memory order.
        columns: None where the columns of the matrix have the same order in memory; otherwise the sizes of the
            weight's other dimensions, and the order that they have in memory.
    """

    A: int
    h: int
    B: int
    columns: tuple[tuple[int, ...], tuple[int, ...]] | None

    def to_memory(self, v: Tensor) -> Tensor:
        """v, one value for each column, in the order of memory."""
        if self.columns is None:
            return v
        sizes, order = self.columns
        return v.view(sizes).permute(order).reshape(-1)

    def from_memory(self, v: Tensor) -> Tensor:
        """The inverse of `to_memory`."""
        if self.columns is None:
            return v
        sizes, order = self.columns
        inverse = [order.index(d) for d in range(len(order))]
        return v.view([sizes[d] for d in order]).permute(inverse).reshape(-1)


def filling_memory(weight: Tensor) -> Tensor:
    """The weight itself if its elements fill their memory, in whatever order; else a contiguous copy."""
    if weight.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense.default(weight):
        return weight
    return weight.contiguous()


def layout_of(weight: Tensor, dim: int) -> Layout:
    """The layout of a dense weight whose rows are dimension `dim`."""
    return _layout(weight.shape, None if weight.is_contiguous() else weight.stride(), dim)


@functools.lru_cache(4096)
def _layout(shape: tuple[int, ...], stride: tuple[int, ...] | None, dim: int) -> Layout:
    """`stride` is None for a contiguous weight, where sizes of one leave it open."""
    ndim = len(shape)
    memory = list(range(ndim)) if stride is None else sorted(range(ndim), key=lambda d: stride[d], reverse=True)
    place = memory.index(dim)
    others = [d for d in range(ndim) if d != dim]
    order = tuple(others.index(d) for d in memory if d != dim)
    before = math.prod(shape[d] for d in memory[:place])
    after = math.prod(shape[d] for d in memory[place + 1 :])
    columns = None if order == tuple(range(ndim - 1)) else (tuple(shape[d] for d in others), order)
    return Layout(before, shape[dim], after, columns)


def in_order_of(x: Tensor, weight: Tensor) -> Tensor:
    """x in the memory order of the dense tensor `weight`, which has its shape, and in its dtype."""
    if x.stride() == weight.stride() and x.dtype == weight.dtype:
        return x
    return torch.empty_like(weight).copy_(x)


def matrix(weight: Tensor, dim: int) -> Tensor:
    """The matrix [rows, columns] as torch's spectral norms see it."""
    return (weight if dim == 0 else weight.movedim(dim, 0)).flatten(1)
