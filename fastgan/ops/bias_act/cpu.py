"""bias_act on the CPU: calls csrc/bias_act.cpp with addresses."""

import functools
import math
from typing import Any

import torch
from torch import Tensor

from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.bias_act.backends import KernelArgs


def forward(x: Tensor, b: Tensor | None, y: Tensor, args: KernelArgs) -> None:
    """y = clamp(gain f(x + b))."""
    E, n, b = x.dtype, x.numel(), wide(b, x)
    of_b = address(b, compute_dtype(x), args.layout[1])
    extension().bias_act(address(x, E, n), of_b, address(y, E, n), args_in_c(args, E))


def grad(dy: Tensor, s: Tensor | None, b: Tensor | None, dx: Tensor, db: Tensor | None, args: KernelArgs) -> None:
    """dx = dy p(s); db, if given, is filled with the sums of dx over each channel."""
    E, n, T, channels, b = dy.dtype, dy.numel(), compute_dtype(dy), args.layout[1], wide(b, dy)
    extension().bias_act_grad(
        address(dy, E, n), address(s, E, n), address(b, T, channels), address(dx, E, n), address(db, T, channels),
        args_in_c(args, E),
    )  # fmt: skip


def grad2(u: Tensor, dy: Tensor, s: Tensor, b: Tensor | None, t: Tensor, args: KernelArgs) -> None:
    """t = u dy p'(s)."""
    E, n, b = dy.dtype, dy.numel(), wide(b, dy)
    of_b = address(b, compute_dtype(dy), args.layout[1])
    inputs = address(u, E, n), address(dy, E, n), address(s, E, n), of_b
    extension().bias_act_grad2(*inputs, address(t, E, n), args_in_c(args, E))


def wide(values: Tensor | None, x: Tensor) -> Tensor | None:
    """A small tensor as the kernels read it beside x: contiguous, in the dtype of the arithmetic."""
    return None if values is None else values.to(compute_dtype(x)).contiguous()


def args_in_c(args: KernelArgs, dtype: torch.dtype) -> Any:
    """The struct BiasActArgs of csrc/bias_act.h."""
    return _args_in_c(args, DTYPE_CODES[dtype], torch.get_num_threads())


@functools.lru_cache(1024)
def _args_in_c(args: KernelArgs, dtype: int, threads: int) -> Any:
    """Made once for each layer and shape: a pybind object takes longer than a look-up."""
    layout, act, alpha, gain, clamp = args
    bound = math.nan if clamp is None else clamp  # no comparison with NaN holds: no clamp
    return extension().BiasActArgs(*layout, ACTIVATIONS[act].code, alpha, gain, bound, dtype, threads)
