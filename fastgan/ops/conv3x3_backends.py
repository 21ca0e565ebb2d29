"""The private operators of conv3x3: allocate the outputs and call the CPU's kernels.

They are opaque to torch.compile and know nothing of autograd; fastgan/ops/convolution.py differentiates them.
"""

from typing import Any

import torch
from torch import Tensor

from fastgan import allocation, backends, native
from fastgan.library import define
from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops.layout import dense, empty_image

Pair = tuple[int, int]  # (height, width)

DTYPES = (torch.float32, torch.float64)

LEAST_CHANNELS = 8
"""Of x and of y. Measured: with three channels of 64, most lanes of a vector are empty."""
LEAST_TILES = 32
"""Of 2x2 pixels, in the whole batch. Measured: fewer do not pay for the transform of 256 or 512 filters."""


def pays(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair) -> bool:
    """Whether conv3x3's kernel is chosen for a 3x3 convolution of stride 1: where it is the faster one, on the CPU.

    Never where another backend is forced. Sizes that do not fit are left to PyTorch, which says so.
    """
    if backends.wanted() not in ("auto", "cpu") or native.reason_missing is not None or x.device.type != "cpu":
        return False
    if min(w.shape[:2]) < LEAST_CHANNELS or not fits(x, w, bias, padding):
        return False
    height, width = output_size(x, padding)
    return x.shape[0] * ((height + 1) // 2) * ((width + 1) // 2) >= LEAST_TILES


def fits(x: Tensor, w: Tensor, bias: Tensor | None, padding: Pair) -> bool:
    """Whether the kernel takes these tensors, w of 3x3 filters; it checks nothing itself. x is on the CPU."""
    return (
        x.dtype in DTYPES
        and all(t.dtype == x.dtype and t.device == x.device for t in (w, bias) if t is not None)
        and x.ndim == 4
        and w.shape[1] == x.shape[1]
        and w.numel() > 0
        and (bias is None or bias.shape == w.shape[:1])
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
    x, w = dense(x, 1), w.contiguous()
    bias = None if bias is None else bias.contiguous()
    y = _output(x, w, padding, turned)
    args = _arguments(x, y, padding, turned)
    extension().conv3x3(x.data_ptr(), w.data_ptr(), address(bias), y.data_ptr(), args, torch.get_num_threads())
    return y


def _output(x: Tensor, w: Tensor, padding: Pair, turned: bool) -> Tensor:
    return empty_image(w.shape[1 if turned else 0], *output_size(x, padding), order=x)


def _weight_grad(x: Tensor, dy: Tensor, padding: Pair) -> Tensor:
    x, dy = dense(x, 1), dense(dy, 1)
    dw = allocation.empty((dy.shape[1], x.shape[1], 3, 3), like=x)
    args = _arguments(x, dy, padding, turned=False)
    extension().conv3x3_weight_grad(x.data_ptr(), dy.data_ptr(), dw.data_ptr(), args, torch.get_num_threads())
    return dw


conv3x3 = define(
    "conv3x3(Tensor x, Tensor w, Tensor? bias, SymInt[2] padding, bool turned) -> Tensor",
    _forward,
    lambda x, w, bias, padding, turned: _output(dense(x, 1), w, padding, turned),
)
conv3x3_weight_grad = define(
    "conv3x3_weight_grad(Tensor x, Tensor dy, SymInt[2] padding) -> Tensor",
    _weight_grad,
    lambda x, dy, padding: x.new_empty((dy.shape[1], x.shape[1], 3, 3)),
)
