"""Gradient norm penalties and their products with the gradient, for the GPU (csrc/gradient_norm_penalty.h).

Memory-bound. A sample is cut into blocks, a program each: one kernel sums every block's squares, the next adds up the
sums of its sample, in one order, and works on its block, which it finds in the L2 cache where the batch fits. A sample
of one block needs the second kernel only. Squares are summed in float64, which no float32 overflows or underflows;
everything else is float32.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan import allocation

from .launch import launch

MAX_BLOCK = 4096
CHUNK = tl.constexpr(128)  # partial sums that a program adds up at once


@triton.jit
def block_of(n, BLOCKS: tl.constexpr, BLOCK: tl.constexpr):
    """This program's sample, and its block's offsets and mask; BLOCKS blocks of n elements a sample."""
    sample = tl.program_id(0) // BLOCKS
    o = (tl.program_id(0) % BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    return sample, sample.to(tl.int64) * n + o, o < n


@triton.jit
def sum_of_squares(b_g):
    b_wide = b_g.to(tl.float64)
    return tl.sum(b_wide * b_wide)


@triton.jit
def sum_of_partials(p_partial, sample, BLOCKS: tl.constexpr):
    b_sum = tl.zeros((CHUNK,), tl.float64)
    for start in range(0, BLOCKS, CHUNK):
        i = start + tl.arange(0, CHUNK)
        b_sum += tl.load(p_partial + sample.to(tl.int64) * BLOCKS + i, mask=i < BLOCKS, other=0.0)
    return tl.sum(b_sum)


@triton.jit
def penalty_of(norm, weight, target, HAS_TARGET: tl.constexpr, ONE_SIDED: tl.constexpr):
    """r(n)."""
    if HAS_TARGET:
        excess = norm - target
        if ONE_SIDED:
            excess = tl.where(excess < 0, 0.0, excess)  # keeps NaN
        r = weight * excess * excess
    else:
        r = 0.5 * weight * norm * norm
    return r


@triton.jit
def slope_of(norm, weight, target, HAS_TARGET: tl.constexpr, ONE_SIDED: tl.constexpr):
    """c(n) = r'(n)/n."""
    c = norm * 0.0 + weight
    if HAS_TARGET:
        idle = norm == 0
        if ONE_SIDED:
            idle = idle | (norm < target)
        c = tl.where(idle, 0.0, 2.0 * weight * (1.0 - target / tl.where(idle, 1.0, norm)))
    return c


@triton.jit
def squares_kernel(p_g, p_partial, n, BLOCKS: tl.constexpr, BLOCK: tl.constexpr):
    _, o, m = block_of(n, BLOCKS, BLOCK)
    tl.store(p_partial + tl.program_id(0), sum_of_squares(tl.load(p_g + o, mask=m, other=0.0)))


@triton.jit
def forward_kernel(
    p_g, p_x, p_s, p_u, p_partial, p_penalty, p_norm, n, weight, target, scale, grad_scale,
    HAS_TARGET: tl.constexpr, ONE_SIDED: tl.constexpr, HAS_S: tl.constexpr, HAS_U: tl.constexpr,
    BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Penalty and norm; with HAS_U a program per block, which writes u, otherwise one per sample."""
    if HAS_U:
        sample, o, m = block_of(n, BLOCKS, BLOCK)
    else:
        sample = tl.program_id(0)
        o = sample.to(tl.int64) * n + tl.arange(0, BLOCK)
        m = tl.arange(0, BLOCK) < n
    if BLOCKS == 1 or HAS_U:
        b_g = tl.load(p_g + o, mask=m, other=0.0)
    if BLOCKS == 1:
        squares = sum_of_squares(b_g)
    else:
        squares = sum_of_partials(p_partial, sample, BLOCKS)
    norm = tl.abs(grad_scale) * tl.sqrt(squares)
    if not HAS_U or tl.program_id(0) % BLOCKS == 0:
        tl.store(p_penalty + sample, penalty_of(norm, weight, target, HAS_TARGET, ONE_SIDED).to(tl.float32))
        tl.store(p_norm + sample, norm.to(tl.float32))
    if HAS_U:
        factor = scale * grad_scale * slope_of(norm, weight, target, HAS_TARGET, ONE_SIDED)
        b_u = factor.to(tl.float32) * b_g.to(tl.float32)
        if HAS_S:
            b_u += tl.load(p_s + sample) * tl.load(p_x + o, mask=m, other=0.0).to(tl.float32)
        tl.store(p_u + o, b_u.to(p_u.dtype.element_ty), mask=m)


@triton.jit
def grad_kernel(
    p_p, p_g, p_norm, p_dg, n, weight, target,
    HAS_TARGET: tl.constexpr, ONE_SIDED: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample, o, m = block_of(n, BLOCKS, BLOCK)
    factor = tl.load(p_p + sample) * slope_of(tl.load(p_norm + sample), weight, target, HAS_TARGET, ONE_SIDED)
    b_g = tl.load(p_g + o, mask=m, other=0.0).to(tl.float32)
    tl.store(p_dg + o, (factor * b_g).to(p_dg.dtype.element_ty), mask=m)


# --- launchers ----------------------------------------------------------------------------------------------------
#
# Tensors are dense with the same strides, the samples outermost. args: weight, target (None for the zero-centred
# penalty) and one_sided, and for `forward` scale and grad_scale.


def _flags(args) -> dict:
    return {"HAS_TARGET": args.target is not None, "ONE_SIDED": args.one_sided}


def _numbers(args) -> tuple[float, float]:
    return args.weight, args.target or 0.0


def _cut(g: Tensor) -> tuple[int, dict, int]:
    """Elements of a sample, the constants that cut it into blocks (at least one), and the warps for a block."""
    n = math.prod(g.shape[1:])
    block = min(MAX_BLOCK, max(triton.next_power_of_2(n), 16))
    return n, {"BLOCKS": max(triton.cdiv(n, block), 1), "BLOCK": block}, max(1, block // 256)


def forward(g: Tensor, x: Tensor | None, s: Tensor | None, outputs: tuple[Tensor | None, Tensor, Tensor], args) -> None:
    """Fills u = s x + scale dr/dg (if it is given), the penalties r and the norms, in that order the outputs."""
    u, penalty, norm = outputs
    n, cut, warps = _cut(g)
    programs = g.shape[0] * cut["BLOCKS"]
    partial = None
    if cut["BLOCKS"] > 1:
        partial = allocation.empty((programs,), like=g, dtype=torch.float64)
        launch(squares_kernel, programs, warps, g, (g, partial, n), cut)
    arguments = (g, x, s, u, partial, penalty, norm, n, *_numbers(args), args.scale, args.grad_scale)
    flags = _flags(args) | {"HAS_S": s is not None, "HAS_U": u is not None}
    launch(forward_kernel, g.shape[0] if u is None else programs, warps, g, arguments, flags | cut)


def grad(p: Tensor, g: Tensor, norm: Tensor, dg: Tensor, args) -> None:
    """dg = p c(n) g."""
    n, cut, warps = _cut(g)
    arguments = (p, g, norm, dg, n, *_numbers(args))
    launch(grad_kernel, g.shape[0] * cut["BLOCKS"], warps, g, arguments, _flags(args) | cut)
