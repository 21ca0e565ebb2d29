"""upfirdn2d: upsample, FIR-filter and downsample images in one pass over memory.

Eager PyTorch writes the image with zeros in between, writes it again with a border, and convolves the zeros as well.
The operation is linear and its transpose is itself with other arguments, so that every derivative is one more call, and
nothing of the size of an image is kept for the backward pass.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fastgan.backends import select
from fastgan.ops._common.checks import check_floating
from fastgan.ops.upfirdn2d.autograd import Upfirdn2d
from fastgan.ops.upfirdn2d.backends import Upfirdn2dConfig
from fastgan.ops.upfirdn2d.filter import (
    Padding,
    Pair,
    Sides,
    check_filter,
    downsampling_padding,
    filter_size,
    parse_padding,
    parse_rate,
    setup_filter,
    upsampling_padding,
)
from fastgan.ops.upfirdn2d.reference import upfirdn2d_reference

__all__ = ["downsample2d", "filter2d", "setup_filter", "upfirdn2d", "upsample2d"]


def upfirdn2d(
    x: Tensor,  # [B, C, H, W]
    f: Tensor | None = None,  # [fh, fw] or [n]
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:  # [B, C, OH, OW]
    """Upsamples, pads or crops, filters and downsamples each channel of a batch of images.

    1. Inserts up - 1 zeros after every pixel, in both directions: the width becomes W * up.
    2. Pads with zeros, or crops where the padding is negative.
    3. Convolves with f and multiplies by the gain; only where the filter lies inside the image.
    4. Keeps every down-th pixel, from the first.

    So OW = (W * up + x0 + x1 - fw) // down + 1. The signature and its meaning are those that users of StyleGAN know
    (Karras et al. 2019, Analyzing and Improving the Image Quality of StyleGAN, arXiv:1912.04958, section 4).
    Differentiable to any order with respect to x.

    Args:
        x: float32, float64, float16 or bfloat16, contiguous or channels_last without a copy.
        f: float32; [fh, fw], or [n] for a separable filter, which is applied in both directions; None for the identity.
            `setup_filter` makes one. On the CPU a filter [fh, fw] that is an outer product is as fast as a separable.
        up: the upsampling rate, one for both directions or (x, y).
        down: the downsampling rate, likewise.
        padding: all four sides, (x, y) or (x0, x1, y0, y1): left, right, top, bottom, in pixels of the upsampled image.
        flip_filter: correlate with f as it is instead of convolving.
        gain: scale of the result; once, also where f is applied twice.

    Returns:
        A tensor in the dtype and memory format of x; the arithmetic is float32 (float64 for float64).

    Raises:
        TypeError: x is not a floating tensor, or f not a float32 one.
        ValueError: an argument has a wrong shape, device or range, f requires a gradient, or the result would have no
            pixels.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    op = "upfirdn2d"
    _check(op, x, f)
    rates = parse_rate(op, "up", up), parse_rate(op, "down", down)
    return _resampled(op, x, f, rates, parse_padding(op, padding), padding, flip_filter, gain)


def _check(op: str, x: Any, f: Any) -> None:
    check_floating(op, "x", x)
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"{op}: x has shape {list(x.shape)}, expected [batch, channels, height, width]")
    check_filter(op, f, x.device)


def _resampled(
    op: str, x: Tensor, f: Tensor | None, rates: tuple[Pair, Pair], sides: Sides, padding: Padding, flip_filter: bool,
    gain: float,
) -> Tensor:  # fmt: skip
    """What all four functions do to checked arguments; messages name `op` and the padding that it was given."""
    if f is not None:
        f = f.float()  # a network's buffers follow it into float64 or half precision
    up, down = rates
    size = _output_size(x, f, up, down, sides)
    if min(size) < 1:
        raise ValueError(
            f"{op}: padding is {padding!r}, expected at least the filter's size, {list(filter_size(f)[::-1])}, to "
            f"be left of an image of {list(x.shape[2:])} pixels upsampled by {up}"
        )
    backend = select("upfirdn2d", x)
    if backend == "reference":
        return upfirdn2d_reference(x, f, up, down, sides, flip_filter, gain)
    config = Upfirdn2dConfig(up, down, (sides[0], sides[2]), bool(flip_filter), float(gain), backend)
    return Upfirdn2d.apply(x, f, config, size)


def filter2d(x: Tensor, f: Tensor | None, padding: Padding = 0, flip_filter: bool = False, gain: float = 1) -> Tensor:
    """Filters each channel; without `padding` the size stays the same.

    An even number of taps needs one zero more on one side than on the other: this puts it in front. Arguments and
    errors as `upfirdn2d`.
    """
    _check("filter2d", x, f)
    (width, height), (x0, x1, y0, y1) = filter_size(f), parse_padding("filter2d", padding)
    sides = (x0 + width // 2, x1 + (width - 1) // 2, y0 + height // 2, y1 + (height - 1) // 2)
    return _resampled("filter2d", x, f, ((1, 1), (1, 1)), sides, padding, flip_filter, gain)


def upsample2d(
    x: Tensor,
    f: Tensor | None,
    up: int | Sequence[int] = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Upsamples each channel; without `padding` the size becomes [H * up, W * up].

    The gain is multiplied by the rates, so that a normalised filter keeps the mean. Otherwise as `upfirdn2d`.
    """
    _check("upsample2d", x, f)
    ux, uy = rate = parse_rate("upsample2d", "up", up)
    sides = upsampling_padding(f, rate, parse_padding("upsample2d", padding))
    return _resampled("upsample2d", x, f, (rate, (1, 1)), sides, padding, flip_filter, gain * ux * uy)


def downsample2d(
    x: Tensor,
    f: Tensor | None,
    down: int | Sequence[int] = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Downsamples each channel; without `padding` the size becomes [H / down, W / down], rounded down.

    Arguments and errors as `upfirdn2d`.
    """
    _check("downsample2d", x, f)
    rate = parse_rate("downsample2d", "down", down)
    sides = downsampling_padding(f, rate, parse_padding("downsample2d", padding))
    return _resampled("downsample2d", x, f, ((1, 1), rate), sides, padding, flip_filter, gain)


def _output_size(x: Tensor, f: Tensor | None, up: Pair, down: Pair, sides: Sequence[int]) -> Pair:
    (fw, fh), (x0, x1, y0, y1) = filter_size(f), sides
    _, _, H, W = x.shape
    return (W * up[0] + x0 + x1 - fw) // down[0] + 1, (H * up[1] + y0 + y1 - fh) // down[1] + 1
