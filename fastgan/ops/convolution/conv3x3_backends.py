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


def pays(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair) -> bool:
    """Whether conv3x3's kernel is chosen for a 3x3 convolution of stride 1: where it is the faster one, on the CPU.

    Sizes that do not fit are left to PyTorch, which says so.
    """
    return (
        minimal_filtering.available(x)
        and fits(x, w, bias, padding)
        and minimal_filtering.large_enough(x.shape[0], (w.shape[0], w.shape[1]), output_size(x, padding))
    )


def fits(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair) -> bool:
    """Whether the kernel takes these tensors, w of 3x3 filters. x is on the CPU."""
    return (
        minimal_filtering.kernels_fit(x, w, bias, w.shape[1], w.shape[0])
        and all(0 <= p <= 2 for p in padding)
        and min(output_size(x, padding)) > 0
    )


def output_size(x: Tensor, padding: Pair) -> Pair:
    return x.shape[2] + 2 * padding[0] - 2, x.shape[3] + 2 * padding[1] - 2


def _arguments(x: Tensor, y: Tensor, padding: Pair, turned: bool) -> Any:
    return extension().Conv3x3Args(
        tuple(x.shape), y.shape[1], tuple(padding), not x.is_contiguous(), not y.is_contiguous(), turned,
        DTYPE_CODES[x.dtype],
    )  # fmt: skip


def _forward(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair, turned: bool) -> Tensor:
    y = _output(x, w, padding, turned)
    x, w = dense(x), w.contiguous()
    bias = None if bias is None else bias.contiguous()
    args = _arguments(x, y, padding, turned)
    E, (K, C) = x.dtype, (y.shape[1], x.shape[1])
    addresses = (address(x, E, x.numel()), address(w, E, 9 * K * C), address(bias, E, K), address(y, E, y.numel()))
    extension().conv3x3(*addresses, args, torch.get_num_threads())
    return y


def _output(x: Tensor, w: Tensor, padding: Pair, turned: bool) -> Tensor:
    shape = (x.shape[0], w.shape[1 if turned else 0], *output_size(x, padding))
    return empty_images(shape, suggests_channels_last(x) or suggests_channels_last(w), like=x)


def _weight_grad(x: Tensor, dy: Tensor, padding: Pair) -> Tensor:
    x, dy = dense(x), dense(dy)
    dw = allocation.empty((dy.shape[1], x.shape[1], 3, 3), like=x)
    args = _arguments(x, dy, padding, turned=False)
    E, (B, C), K, pixels = x.dtype, x.shape[:2], dy.shape[1], math.prod(output_size(x, padding))
    addresses = address(x, E, x.numel()), address(dy, E, B * K * pixels), address(dw, E, 9 * K * C)
    extension().conv3x3_weight_grad(*addresses, args, torch.get_num_threads())
    return dw


conv3x3 = define(
    "conv3x3(Tensor x, Tensor w, Tensor? bias, SymInt[2] padding, bool turned) -> Tensor",
    _forward,
    lambda x, w, bias, padding, turned: _output(x, w, padding, turned),
)
conv3x3_weight_grad = define(
    "conv3x3_weight_grad(Tensor x, Tensor dy, SymInt[2] padding) -> Tensor",
    _weight_grad,
    lambda x, dy, padding: x.new_empty((dy.shape[1], x.shape[1], 3, 3)),
)
