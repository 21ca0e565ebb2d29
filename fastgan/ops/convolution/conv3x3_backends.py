"""The private operators of conv3x3: allocate the outputs and call the CPU's kernels.

They are opaque to torch.compile and know nothing of autograd; autograd.py differentiates them.
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

LEAST_GROUP_CHANNELS = 12
"""Of x and of y in each of several groups. Measured: with eight, half the lanes of a vector are empty."""
LEAST_GROUP_TILES = 16
"""Of 2x2 pixels in the whole batch, where there are several groups: their filters are smaller."""


def pays(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair, groups: int) -> bool:
    """Whether conv3x3's kernel is chosen for a 3x3 convolution of stride 1: where it is the faster one, on the CPU.

    Sizes that do not fit are left to PyTorch, which says so.
    """
    if not (minimal_filtering.available(x) and fits(x, w, bias, padding, groups)):
        return False
    B, channels, size = x.shape[0], (w.shape[0] // groups, w.shape[1]), output_size(x, padding)
    if groups == 1:
        return minimal_filtering.large_enough(B, channels, size)
    return min(channels) >= LEAST_GROUP_CHANNELS and minimal_filtering.tiles(B, size) >= LEAST_GROUP_TILES


def fits(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair, groups: int) -> bool:
    """Whether the kernel takes these tensors, w of 3x3 filters. x is on the CPU."""
    return (
        minimal_filtering.kernels_fit(x, w, bias, w.shape[1] * groups, w.shape[0])
        and groups > 0
        and w.shape[0] % groups == 0
        and all(0 <= p <= 2 for p in padding)
        and min(output_size(x, padding)) > 0
    )


def output_size(x: Tensor, padding: Pair) -> Pair:
    return x.shape[2] + 2 * padding[0] - 2, x.shape[3] + 2 * padding[1] - 2


def _arguments(x: Tensor, y: Tensor, padding: Pair, groups: int, turned: bool) -> Any:
    return extension().Conv3x3Args(
        tuple(x.shape), y.shape[1], tuple(padding), groups, not x.is_contiguous(), not y.is_contiguous(), turned,
        DTYPE_CODES[x.dtype],
    )  # fmt: skip


def _forward(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair, groups: int, turned: bool) -> Tensor:
    y = _output(x, w, padding, groups, turned)
    x, w = dense(x), w.contiguous()
    bias = None if bias is None else bias.contiguous()
    args = _arguments(x, y, padding, groups, turned)
    E, (K, C) = x.dtype, (y.shape[1], x.shape[1])
    of_w = address(w, E, 9 * K * C // groups)
    addresses = (address(x, E, x.numel()), of_w, address(bias, E, K), address(y, E, y.numel()))
    extension().conv3x3(*addresses, args, torch.get_num_threads())
    return y


def _output(x: Tensor, w: Tensor, padding: Pair, groups: int, turned: bool) -> Tensor:
    shape = (x.shape[0], w.shape[1] * groups if turned else w.shape[0], *output_size(x, padding))
    return empty_images(shape, suggests_channels_last(x) or suggests_channels_last(w), like=x)


def _weight_grad(x: Tensor, dy: Tensor, padding: Pair, groups: int) -> Tensor:
    x, dy = dense(x), dense(dy)
    dw = allocation.empty((dy.shape[1], x.shape[1] // groups, 3, 3), like=x)
    args = _arguments(x, dy, padding, groups, turned=False)
    E, (B, C), K, pixels = x.dtype, x.shape[:2], dy.shape[1], math.prod(output_size(x, padding))
    addresses = address(x, E, x.numel()), address(dy, E, B * K * pixels), address(dw, E, 9 * K * C // groups)
    extension().conv3x3_weight_grad(*addresses, args, torch.get_num_threads())
    return dw


conv3x3 = define(
    "conv3x3(Tensor x, Tensor w, Tensor? bias, SymInt[2] padding, SymInt groups, bool turned) -> Tensor",
    _forward,
    lambda x, w, bias, padding, groups, turned: _output(x, w, padding, groups, turned),
)
conv3x3_weight_grad = define(
    "conv3x3_weight_grad(Tensor x, Tensor dy, SymInt[2] padding, SymInt groups) -> Tensor",
    _weight_grad,
    lambda x, dy, padding, groups: x.new_empty((dy.shape[1], x.shape[1] // groups, 3, 3)),
)
