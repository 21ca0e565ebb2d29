"""ActivationMask: the side of its kink that every element of an activation is on, in one bit per element.

The bits follow memory, not the indices of the tensor: kernels read them beside the elements that they belong to. Here
they are packed and unpacked in plain PyTorch.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class ActivationMask(NamedTuple):
    """Which elements of x + b are positive and, with a clamp, which results are not clamped.

    Attributes:
        bits: uint8 [planes * ceil(n / 8)] for a tensor of n elements. Bit j (of value 2^j) of byte k of a plane is
            element 8 k + j in memory order; the bits after the last element are 0.
        order: the dimensions of x from the outermost to the innermost in memory: (0, 1, 2, 3) if it is contiguous,
            (0, 2, 3, 1) if it is channels_last.
        clamped: whether there is a second plane: 0 where the absolute value of the result has reached the clamp.
    """

    bits: Tensor
    order: tuple[int, ...]
    clamped: bool


def in_order(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """x with its memory in that order: itself, or a copy."""
    seen = x.permute(order)
    return x if seen.is_contiguous() else from_memory(seen.contiguous(), x.shape, order)


def from_memory(values: Tensor, shape: tuple[int, ...], order: tuple[int, ...]) -> Tensor:
    """The tensor of that shape whose elements are `values`, of any shape, in memory order."""
    inverse = [order.index(dim) for dim in range(len(order))]
    return values.reshape([shape[dim] for dim in order]).permute(inverse)


def bytes_of_mask(x: Tensor) -> int:
    """The size of one plane of the mask of x."""
    return (x.numel() + 7) // 8


def pack(flags: Tensor, order: tuple[int, ...]) -> Tensor:
    """uint8 [ceil(n / 8)]: the bits of n booleans of any shape, in that memory order."""
    in_memory = flags.permute(order).reshape(-1).to(torch.uint8)
    padded = torch.nn.functional.pad(in_memory, (0, -flags.numel() % 8)).view(-1, 8)
    return (padded << _positions(flags.device)).sum(1, dtype=torch.uint8)


def unpack(bits: Tensor, shape: tuple[int, ...], order: tuple[int, ...]) -> Tensor:
    """bool [shape]: the booleans that `pack` was given."""
    flags = (bits.unsqueeze(1) >> _positions(bits.device)) & 1
    return from_memory(flags.reshape(-1)[: math.prod(shape)].bool(), shape, order)


def planes(mask: ActivationMask, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    """Both planes as bool [shape]: positive, and open (None without a clamp)."""
    size = (math.prod(shape) + 7) // 8
    positive = unpack(mask.bits[:size], shape, mask.order)
    return positive, unpack(mask.bits[size:], shape, mask.order) if mask.clamped else None


def _positions(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
