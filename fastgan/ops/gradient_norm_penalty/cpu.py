"""gradient_norm_penalty on the CPU: calls csrc/gradient_norm_penalty.cpp with addresses."""

import math
from typing import Any

import torch
from torch import Tensor

from fastgan.native import DTYPE_CODES, address, extension
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.gradient_norm_penalty.backends import KernelArgs


def forward(
    g: Tensor, x: Tensor | None, s: Tensor | None, outputs: tuple[Tensor | None, Tensor, Tensor], args: KernelArgs
) -> None:
    """Fills u = s x + scale dr/dg (if it is given), the penalties r and the norms, in that order the outputs."""
    E, n, T, B = g.dtype, g.numel(), compute_dtype(g), g.shape[0]
    u, penalty, norm = outputs
    extension().gradient_norm_penalty(
        address(g, E, n), address(x, E, n), address(s, T, B), address(u, E, n), address(penalty, T, B),
        address(norm, T, B), _args_in_c(g, args),
    )  # fmt: skip


def grad(p: Tensor, g: Tensor, norm: Tensor, dg: Tensor, args: KernelArgs) -> None:
    """dg = p times the derivative of the penalty."""
    E, n, T, B = g.dtype, g.numel(), compute_dtype(g), g.shape[0]
    extension().gradient_norm_penalty_grad(
        address(p, T, B), address(g, E, n), address(norm, T, B), address(dg, E, n), _args_in_c(g, args)
    )


def _args_in_c(g: Tensor, args: KernelArgs) -> Any:
    """The struct NormPenaltyArgs of csrc/gradient_norm_penalty.h."""
    weight, target, one_sided, scale, grad_scale = args
    goal = math.nan if target is None else target  # no comparison with NaN holds: no target
    numbers = weight, goal, one_sided, scale, grad_scale
    sizes = g.shape[0], math.prod(g.shape[1:])
    return extension().NormPenaltyArgs(*sizes, *numbers, DTYPE_CODES[g.dtype], torch.get_num_threads())
