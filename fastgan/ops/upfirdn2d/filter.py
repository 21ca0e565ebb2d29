"""The filters of upfirdn2d: making one, its size, and the padding that keeps an image in place."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.checks import check_floating

Padding = int | Sequence[int]
"""All four sides, (x, y) or (x0, x1, y0, y1): left, right, top, bottom, in pixels of the upsampled image."""
Sides = tuple[int, int, int, int]
"""(x0, x1, y0, y1)"""
Pair = tuple[int, int]
"""(x, y)"""


def setup_filter(
    f: Any,
    device: torch.device | str = "cpu",
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> Tensor:
    """A filter for `upfirdn2d` and its relatives.

    `setup_filter([1, 3, 3, 1])` is the low-pass filter of StyleGAN2.

    Args:
        f: the taps: a tensor, list or number of shape [n], [fh, fw] or []; None for the identity.
        device: where the filter shall be.
        normalize: divide by the sum of the taps, so that a constant image keeps its value.
        flip_filter: reverse the taps.
        gain: scale of the image. One of the two directions of a separable filter takes its square root.
        separable: whether a filter [n] stays one, to be applied in both directions; otherwise it becomes its outer
            product [n, n]. Default: from 8 taps on, where two passes are cheaper on any device.

    Returns:
        float32, [n] if separable, else [fh, fw].

    Raises:
        ValueError: f is not made of numbers, has no taps or too many dimensions, its sum is zero and cannot be
            normalised, or two dimensions are asked to be separable.
    """
    return filter_of("setup_filter", "f", f, device, normalize, flip_filter, gain, separable)


def filter_of(
    op: str, name: str, f: Any, device: torch.device | str = "cpu", normalize: bool = True, flip_filter: bool = False,
    gain: float = 1, separable: bool | None = None,
) -> Tensor:  # fmt: skip
    """`setup_filter` of the argument `name` of something else, `op`."""
    try:
        taps = torch.as_tensor(1 if f is None else f, dtype=torch.float64, device=device)
    except (TypeError, ValueError) as error:  # a word, rows of unequal lengths
        raise ValueError(f"{op}: {name} is {f!r}, expected a tensor, list or number: {error}") from error
    if taps.ndim > 2 or taps.numel() == 0:
        raise ValueError(f"{op}: {name} has shape {list(taps.shape)}, expected [], [n] or [height, width]")
    taps = taps.reshape(1) if taps.ndim == 0 else taps
    if separable is None:
        separable = taps.ndim == 1 and taps.numel() >= 8
    if separable and taps.ndim != 1:
        raise ValueError(f"{op}: separable is True, but {name} has shape {list(taps.shape)}, expected [n]")
    if taps.ndim == 1 and not separable:
        taps = torch.outer(taps, taps)
    if normalize:
        total = taps.sum()
        if total == 0:
            raise ValueError(f"{op}: the taps of {name} add up to 0, expected another sum, or normalize=False")
        taps = taps / total
    if flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    return (taps * gain ** (taps.ndim / 2)).float()


def filter_size(f: Tensor | None) -> Pair:
    """Width and height."""
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


def check_filter(op: str, f: Any, device: torch.device, name: str = "f") -> None:
    """Raises what `upfirdn2d` documents; `name` is that of the argument."""
    if f is None:
        return
    check_floating(op, name, f, "a floating-point tensor or None (setup_filter makes one)")
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise ValueError(f"{op}: {name} has shape {list(f.shape)}, expected [n] or [height, width]")
    if f.device != device:
        raise ValueError(f"{op}: {name} is on {f.device}, expected {device} like x")
    if f.requires_grad:
        raise ValueError(f"{op}: {name} requires a gradient, expected a constant: there is no gradient to the filter")


def parse_rate(op: str, name: str, rate: int | Sequence[int]) -> Pair:
    """(x, y) of an up- or downsampling rate."""
    both = tuple(rate) if isinstance(rate, (list, tuple)) else (rate, rate)
    if len(both) != 2 or not all(isinstance(r, int) for r in both):
        raise ValueError(f"{op}: {name} is {rate!r}, expected an int or (x, y)")
    if min(both) < 1:
        raise ValueError(f"{op}: {name} is {rate!r}, expected rates of at least 1")
    return both[0], both[1]


def parse_padding(op: str, padding: Padding) -> Sides:
    """(x0, x1, y0, y1)."""
    sides = tuple(padding) if isinstance(padding, (list, tuple)) else (padding,) * 4
    if len(sides) == 2:
        sides = (sides[0], sides[0], sides[1], sides[1])
    if len(sides) != 4 or not all(isinstance(p, int) for p in sides):
        raise ValueError(f"{op}: padding is {padding!r}, expected an int, (x, y) or (x0, x1, y0, y1)")
    return sides[0], sides[1], sides[2], sides[3]


def upsampling_padding(f: Tensor | None, up: Pair, sides: Sides) -> Sides:
    """The padding that keeps the image in place where it is upsampled and filtered, beside `sides`."""
    (width, height), (ux, uy), (x0, x1, y0, y1) = filter_size(f), up, sides
    return (
        x0 + (width + ux - 1) // 2, x1 + (width - ux) // 2,
        y0 + (height + uy - 1) // 2, y1 + (height - uy) // 2,
    )  # fmt: skip


def downsampling_padding(f: Tensor | None, down: Pair, sides: Sides) -> Sides:
    """The padding that keeps the image in place where it is filtered and downsampled, beside `sides`."""
    (width, height), (dx, dy), (x0, x1, y0, y1) = filter_size(f), down, sides
    return (
        x0 + (width - dx + 1) // 2, x1 + (width - dx) // 2,
        y0 + (height - dy + 1) // 2, y1 + (height - dy) // 2,
    )  # fmt: skip
