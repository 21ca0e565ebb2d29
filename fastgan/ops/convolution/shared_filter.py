"""Convolutions of every channel by one constant filter (a blur, a resampling filter) by `upfirdn2d`, on the CPU.

Code bases write them as depthwise convolutions whose weight is one filter, expanded or repeated for all channels, or
with the channels among the samples. The filter gets no gradient, and the gradient to the images is the same operation
with other arguments.
"""

import math

import torch
from torch import Tensor

from fastgan._torch_private import is_traced
from fastgan.ops._common.wanted import eager
from fastgan.ops.convolution import minimal_filtering
from fastgan.ops.convolution.minimal_filtering import Pair
from fastgan.ops.upfirdn2d.backends import Upfirdn2dConfig, upfirdn2d

LEAST_ELEMENTS = 4096
"""Of the larger images. Fewer would be faster too, by fractions of a millisecond; theirs stay PyTorch's bits."""

LEAST_SIDE = 16
"""Of the larger images where there are several channels. Measured: rows of 8 pixels do not fill a vector."""

MOST_TAPS = 64
"""Of a filter: StyleGAN's have 16 to 144, others 4 to 49. Looking at more takes Python long."""


def pays(x: Tensor, w: Tensor, bias: Tensor | None, groups: int, larger: Pair, smaller: Pair) -> bool:
    """Whether it is the faster one for images of these two sizes, x and the result, not dilated.

    Sizes that do not fit are left to PyTorch, which says so.
    """
    return (
        not torch.jit.is_tracing()  # whose sizes are no numbers
        and groups == w.shape[0]
        and w.shape[1] == 1
        and not w.requires_grad
        and 0 < w[0].numel() <= MOST_TAPS
        and min(*smaller, *larger) > 0
        and len(x) * groups * larger[0] * larger[1] >= LEAST_ELEMENTS
        and (groups == 1 or min(larger) >= LEAST_SIDE)
        and minimal_filtering.available(x)
        and minimal_filtering.tensors_fit(x, w, bias, groups, groups)
        and eager()
        and not is_traced()
        and _is_shared(w.detach())
    )


def _is_shared(w: Tensor) -> bool:
    """Whether all channels have one finite filter, which float32 holds to the last bit; of several, a separable one."""
    one = w[:1]
    if w.dtype != torch.float32 and not torch.equal(one.float().to(w.dtype), one):
        return False
    rows = one[0, 0].tolist()
    if not all(math.isfinite(element) for row in rows for element in row):  # the zeros in between would be multiplied
        return False
    return len(w) == 1 or ((w.stride(0) == 0 or torch.equal(w, one.expand_as(w))) and _is_separable(rows))


def _is_separable(rows: list[list[float]]) -> bool:
    """Whether a filter is an outer product but for rounding: two passes of few taps instead of one of many."""
    strongest = max(rows, key=lambda row: sum(map(abs, row)))
    peak = max(range(len(strongest)), key=lambda j: abs(strongest[j]))
    scale = strongest[peak]
    return all(
        abs(element * scale - row[peak] * of_strongest) <= 1e-6 * scale * scale
        for row in rows
        for element, of_strongest in zip(row, strongest, strict=True)
    )


def convolve(x: Tensor, w: Tensor, stride: Pair, padding: Pair, size: Pair) -> Tensor:
    """The convolution of x, of this size."""
    rate, origin = (stride[1], stride[0]), (padding[1], padding[0])  # upfirdn2d's pairs are (x, y)
    config = Upfirdn2dConfig((1, 1), rate, origin, True, 1.0, "cpu")
    return upfirdn2d(x, w[0, 0].float(), *config, (size[1], size[0]))


def convolve_transposed(y: Tensor, w: Tensor, stride: Pair, padding: Pair, size: Pair) -> Tensor:
    """The transposed convolution of y, of this size: the gradient of `convolve` to its images."""
    f = w[0, 0].float()
    rate, origin = (stride[1], stride[0]), (padding[1], padding[0])
    config = Upfirdn2dConfig((1, 1), rate, origin, True, 1.0, "cpu").transposed(f)
    return upfirdn2d(y, f, *config, (size[1], size[0]))
