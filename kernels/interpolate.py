"""Interpolation between two batches with one random weight per sample, and its derivative, for the GPU.

Memory-bound: a tensor is read once and written once. A program works on a block of one sample and draws that sample's
weight itself, from Triton's counter-based generator. Arithmetic is float32.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from .launch import launch

MAX_BLOCK = 2048


@triton.jit
def locate(p_seed, n, BLOCKS: tl.constexpr, BLOCK: tl.constexpr):
    """The weight of this program's sample, and its block's offsets and mask; BLOCKS blocks of n elements a sample."""
    sample = tl.program_id(0) // BLOCKS
    o = (tl.program_id(0) % BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    return tl.rand(tl.load(p_seed), sample), sample.to(tl.int64) * n + o, o < n


@triton.jit
def forward_kernel(p_x, p_y, p_seed, p_o, n, BLOCKS: tl.constexpr, BLOCK: tl.constexpr):
    e, o, m = locate(p_seed, n, BLOCKS, BLOCK)
    b_x = tl.load(p_x + o, mask=m, other=0.0).to(tl.float32)
    b_y = tl.load(p_y + o, mask=m, other=0.0).to(tl.float32)
    tl.store(p_o + o, (e * b_x + (1.0 - e) * b_y).to(p_o.dtype.element_ty), mask=m)


@triton.jit
def grad_kernel(p_g, p_seed, p_dx, p_dy, n, BLOCKS: tl.constexpr, BLOCK: tl.constexpr):
    e, o, m = locate(p_seed, n, BLOCKS, BLOCK)
    b_g = tl.load(p_g + o, mask=m, other=0.0).to(tl.float32)
    tl.store(p_dx + o, (e * b_g).to(p_dx.dtype.element_ty), mask=m)
    tl.store(p_dy + o, ((1.0 - e) * b_g).to(p_dy.dtype.element_ty), mask=m)


# --- launchers ----------------------------------------------------------------------------------------------------
#
# Tensors are dense with the same strides, the samples outermost.


def _run(kernel, x: Tensor, arguments: tuple) -> None:
    n = math.prod(x.shape[1:])
    block = min(MAX_BLOCK, max(triton.next_power_of_2(n), 16))
    blocks = triton.cdiv(n, block)
    # A thread moves 16 bytes of each tensor, the widest access: 4 elements of float32, 8 of float16.
    warps = max(1, block * x.element_size() // (16 * 32) // 2)
    constants = {"BLOCKS": blocks, "BLOCK": block}
    launch(kernel, x.shape[0] * blocks, warps, x, (*arguments, n), constants)


def forward(x: Tensor, y: Tensor, seed: Tensor, o: Tensor) -> None:
    """o = e x + (1 - e) y."""
    _run(forward_kernel, x, (x, y, seed, o))


def grad(g: Tensor, seed: Tensor, dx: Tensor, dy: Tensor) -> None:
    """dx = e g and dy = (1 - e) g."""
    _run(grad_kernel, g, (g, seed, dx, dy))
