"""interpolate on the CPU: calls csrc/interpolate.cpp with addresses."""

import math

import torch
from torch import Tensor

from fastgan.native import DTYPE_CODES, address, extension


def forward(x: Tensor, y: Tensor, seed: Tensor, o: Tensor) -> None:
    """o = e x + (1 - e) y with the weights e of the seed."""
    E, n, of_seed = x.dtype, x.numel(), address(seed, torch.int64, 1)
    extension().interpolate(address(x, E, n), address(y, E, n), of_seed, address(o, E, n), *_sizes(x))


def grad(g: Tensor, seed: Tensor, dx: Tensor, dy: Tensor) -> None:
    """dx = e g, dy = (1 - e) g."""
    E, n, of_seed = g.dtype, g.numel(), address(seed, torch.int64, 1)
    extension().interpolate_grad(address(g, E, n), of_seed, address(dx, E, n), address(dy, E, n), *_sizes(g))


def _sizes(x: Tensor) -> tuple[int, int, int, int]:
    """Samples, elements of a sample, dtype and threads."""
    return x.shape[0], math.prod(x.shape[1:]), DTYPE_CODES[x.dtype], torch.get_num_threads()
