"""frozen_bias_act on the CPU: calls csrc/frozen_bias_act.cpp with addresses."""

import functools
import math
from typing import Any

import torch
from torch import Tensor

from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.activations import ACTIVATIONS
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.bias_act.backends import KernelArgs
from fastgan.ops.bias_act.cpu import args_in_c, wide
from fastgan.ops.frozen_bias_act.backends import FrozenArgs
from fastgan.ops.frozen_bias_act.mask import bytes_of_mask


def forward(x: Tensor, b: Tensor | None, y: Tensor, bits: Tensor, args: KernelArgs) -> None:
    """y = clamp(gain f(x + b)) and its mask; y may be x."""
    E, n, b = x.dtype, x.numel(), wide(b, x)
    of_b, of_bits = address(b, compute_dtype(x), args.layout[1]), _bits(bits, x, args.clamp)
    extension().bias_act_with_mask(address(x, E, n), of_b, address(y, E, n), of_bits, args_in_c(args, E))


def frozen(u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor, y: Tensor, args: FrozenArgs) -> None:
    """y = p (u + s b); where clamped, s clamp with its sign if `args.constant`, else 0."""
    E, T, n = u.dtype, compute_dtype(u), u.numel()
    b, s, samples = wide(b, u), wide(s, u), _samples(s)
    extension().frozen_bias_act(
        address(u, E, n), address(b, T, args.layout[1]), address(s, T, samples), _bits(bits, u, args.clamp),
        address(y, E, n), samples, args.constant, _frozen_args_in_c(args, DTYPE_CODES[E], torch.get_num_threads()),
    )  # fmt: skip


def grad(dy: Tensor, s: Tensor | None, bits: Tensor, du: Tensor, db: Tensor | None, args: FrozenArgs) -> None:
    """du = p dy; db, if given, is filled with the sums of s du over each channel."""
    E, T, n = dy.dtype, compute_dtype(dy), dy.numel()
    s, samples = wide(s, dy), _samples(s)
    extension().frozen_bias_act_grad(
        address(dy, E, n), address(s, T, samples), _bits(bits, dy, args.clamp), address(du, E, n),
        address(db, T, args.layout[1]), samples, _frozen_args_in_c(args, DTYPE_CODES[E], torch.get_num_threads()),
    )  # fmt: skip


def _bits(bits: Tensor, x: Tensor, clamp: float | None) -> int:
    """Where the mask of x lies: one plane, or two with a clamp."""
    return address(bits, torch.uint8, bytes_of_mask(x) * (1 if clamp is None else 2))


def _samples(s: Tensor | None) -> int:
    return 1 if s is None else s.numel()


@functools.lru_cache(1024)
def _frozen_args_in_c(args: FrozenArgs, dtype: int, threads: int) -> Any:
    """The struct BiasActArgs of csrc/bias_act.h, of a leaky ReLU."""
    layout, slope, gain, clamp, _ = args
    bound = math.nan if clamp is None else clamp  # no comparison with NaN holds: no clamp
    return extension().BiasActArgs(*layout, ACTIVATIONS["lrelu"].code, slope, gain, bound, dtype, threads)
