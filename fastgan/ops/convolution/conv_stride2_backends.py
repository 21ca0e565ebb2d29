"""The private operators of conv_stride2: allocate the outputs and call the CPU's kernels.

They are opaque to torch.compile and know nothing of autograd; autograd.py differentiates them. Named as
in the convolution from x to y; its transpose goes from y to x.
"""

import math
from typing import Any

import torch
from torch import Tensor

from fastgan import allocation
from fastgan.library import define
from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.layout import dense, empty_images, suggests_channels_last
from fastgan.ops.convolution import minimal_filtering
from fastgan.ops.convolution.minimal_filtering import Pair


def pays(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair) -> bool:
    """Whether the kernel is chosen for a convolution of stride 2 with 3x3 or 4x4 filters: where it is the faster one.

    Sizes that do not fit are left to PyTorch, which says so.
    """
    return (
        minimal_filtering.available(x)
        and fits(x, w, bias, padding)
        and minimal_filtering.large_enough(x.shape[0], (w.shape[0], w.shape[1]), output_size(x, w, padding[0]))
    )


def fits(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair) -> bool:
    """Whether the kernel takes these tensors, w of 3x3 or 4x4 filters. x is on the CPU."""
    return (
        minimal_filtering.kernels_fit(x, w, bias, w.shape[1], w.shape[0])
        and padding[0] == padding[1] >= 0
        and min(output_size(x, w, padding[0])) > 0
    )


def transposed_pays(y: Tensor, w: Tensor, bias: Tensor | None, padding: Pair, output_padding: Pair) -> bool:
    """The same for the transpose."""
    return (
        minimal_filtering.available(y)
        and minimal_filtering.kernels_fit(y, w, bias, w.shape[0], w.shape[1])
        and padding[0] == padding[1] >= 0
        and all(0 <= end <= 1 for end in output_padding)
        and min(transposed_size(y, w, padding[0], output_padding)) > 0
        and minimal_filtering.large_enough(y.shape[0], (w.shape[0], w.shape[1]), (y.shape[2], y.shape[3]))
    )


def output_size(x: Tensor, w: Tensor, padding: int) -> Pair:
    """Of y. Rounded down before the division by two: what is too small comes out as zero or less."""
    height, width = ((size + 2 * padding - w.shape[-1]) // 2 + 1 for size in x.shape[2:])
    return height, width


def transposed_size(y: Tensor, w: Tensor, padding: int, output_padding: Pair) -> Pair:
    """Of x."""
    height, width = (
        2 * (size - 1) - 2 * padding + w.shape[-1] + end for size, end in zip(y.shape[2:], output_padding, strict=True)
    )
    return height, width


def _arguments(x: Tensor, y: Tensor, padding: int, taps: int) -> Any:
    return extension().ConvStride2Args(
        tuple(x.shape), tuple(y.shape), padding, taps, not x.is_contiguous(), not y.is_contiguous(),
        DTYPE_CODES[x.dtype],
    )  # fmt: skip


def _addresses(x: Tensor, w: Tensor, y: Tensor, padding: int) -> tuple[int, int, int]:
    """Where x, w and y lie; w has [channels of y, channels of x, taps, taps], and y is as large as w makes it."""
    (B, C), (K, taps) = x.shape[:2], (y.shape[1], w.shape[-1])
    E = x.dtype
    of_w = address(w, E, K * C * taps * taps)
    return address(x, E, x.numel()), of_w, address(y, E, B * K * math.prod(output_size(x, w, padding)))


def _bias_address(bias: Tensor | None, result: Tensor) -> int:
    return address(bias, result.dtype, result.shape[1])


def _forward(x: Tensor, w: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    y = _y(x, w, padding)
    x, w = dense(x), w.contiguous()
    bias = None if bias is None else bias.contiguous()
    args = _arguments(x, y, padding, w.shape[-1])
    of_x, of_w, of_y = _addresses(x, w, y, padding)
    extension().conv_stride2(of_x, of_w, _bias_address(bias, y), of_y, args, torch.get_num_threads())
    return y


def _transposed(y: Tensor, w: Tensor, bias: Tensor | None, size: list[int], padding: int) -> Tensor:
    x = _x(y, w, size)
    y, w = dense(y), w.contiguous()
    bias = None if bias is None else bias.contiguous()
    args = _arguments(x, y, padding, w.shape[-1])
    of_x, of_w, of_y = _addresses(x, w, y, padding)
    extension().conv_stride2_transposed(of_y, of_w, _bias_address(bias, x), of_x, args, torch.get_num_threads())
    return x


def _weight_grad(x: Tensor, dy: Tensor, padding: int, taps: int) -> Tensor:
    x, dy = dense(x), dense(dy)
    dw = allocation.empty((dy.shape[1], x.shape[1], taps, taps), like=x)
    args = _arguments(x, dy, padding, taps)
    of_x, of_w, of_y = _addresses(x, dw, dy, padding)
    extension().conv_stride2_weight_grad(of_x, of_y, of_w, args, torch.get_num_threads())
    return dw


def _y(x: Tensor, w: Tensor, padding: int) -> Tensor:
    return _result((x.shape[0], w.shape[0], *output_size(x, w, padding)), x, w)


def _x(y: Tensor, w: Tensor, size: list[int]) -> Tensor:
    height, width = size
    return _result((y.shape[0], w.shape[1], height, width), y, w)


def _result(shape: tuple[int, int, int, int], given: Tensor, w: Tensor) -> Tensor:
    return empty_images(shape, suggests_channels_last(given) or suggests_channels_last(w), like=given)


conv_stride2 = define(
    "conv_stride2(Tensor x, Tensor w, Tensor? bias, SymInt padding) -> Tensor",
    _forward,
    lambda x, w, bias, padding: _y(x, w, padding),
)
conv_stride2_transposed = define(
    "conv_stride2_transposed(Tensor y, Tensor w, Tensor? bias, SymInt[2] size, SymInt padding) -> Tensor",
    _transposed,
    lambda y, w, bias, size, padding: _x(y, w, size),
)
conv_stride2_weight_grad = define(
    "conv_stride2_weight_grad(Tensor x, Tensor dy, SymInt padding, SymInt taps) -> Tensor",
    _weight_grad,
    lambda x, dy, padding, taps: x.new_empty((dy.shape[1], x.shape[1], taps, taps)),
)
