"""bias_act that keeps one bit per element, the activation frozen at those bits, and its gradient, for the GPU.

Memory-bound: a tensor is read once and written once, the bits are 1/32 of a float32 tensor. The forward kernel packs
eight neighbours into a byte, which one row of a [BLOCK / 8, 8] tile holds. db costs no pass of its own: blocks write
partial sums, which torch.sum reduces; no atomics, so that results repeat. Arithmetic is float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .bias_act import BLOCK, CODES, activate, load_with_bias
from .launch import launch

REPEATS = 4  # tiles of rows that a program sums when it sums over rows
ROW = 32  # a row of at least this many elements is summed by itself


@triton.jit
def eights(n, BLOCK: tl.constexpr):
    """Offsets of a block of elements as [BLOCK / 8, 8], of its bytes in a mask, and which of both exist."""
    first = tl.program_id(0).to(tl.int64) * (BLOCK // 8)
    o_bytes = first + tl.arange(0, BLOCK // 8)
    o = o_bytes[:, None] * 8 + tl.arange(0, 8)[None, :]
    return o, o < n, o_bytes, o_bytes * 8 < n


@triton.jit
def pack(b_flags):
    """[rows, 8] of 0 and 1 -> [rows] of bytes, the first flag in the lowest bit."""
    return tl.sum(b_flags << tl.arange(0, 8)[None, :], axis=1).to(tl.uint8)


@triton.jit
def load_bit(p_bits, o, m):
    """The bit of each element at offset o, as a condition."""
    b_bytes = tl.load(p_bits + o // 8, mask=m, other=0).to(tl.int32)
    return ((b_bytes >> (o % 8).to(tl.int32)) & 1) != 0


@triton.jit
def load_scale(p_s, o, m, HAS_SCALE: tl.constexpr, SAMPLE: tl.constexpr, COMPUTE: tl.constexpr):
    """s of the sample that each element at offset o belongs to, or 1."""
    b_s = tl.full(o.shape, 1.0, COMPUTE)
    if HAS_SCALE:
        b_s = tl.load(p_s + o // SAMPLE, mask=m, other=0.0).to(COMPUTE)
    return b_s


@triton.jit
def mask_kernel(
    p_x, p_b, p_y, p_bits, n, plane, alpha, gain, clamp,
    ACT: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_CLAMP: tl.constexpr,
    CHANNELS: tl.constexpr, INNER: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    o, m, o_bytes, m_bytes = eights(n, BLOCK)
    b_z = load_with_bias(p_x, p_b, o, m, HAS_BIAS, CHANNELS, INNER, COMPUTE)
    b_y = gain * activate(b_z, alpha, ACT)
    if HAS_CLAMP:
        b_y = tl.where(b_y > clamp, clamp, tl.where(b_y < -clamp, -clamp, b_y))
    b_stored = b_y.to(p_y.dtype.element_ty)
    tl.store(p_y + o, b_stored, mask=m)
    tl.store(p_bits + o_bytes, pack(tl.where((b_z > 0) & m, 1, 0)), mask=m_bytes)
    if HAS_CLAMP:
        # As stored: in the tensor's type a clamp such as 0.65 may have been rounded down.
        saved_clamp = (tl.full(b_y.shape, 0.0, COMPUTE) + clamp).to(p_y.dtype.element_ty).to(COMPUTE)
        b_reached = tl.abs(b_stored.to(COMPUTE)) >= saved_clamp
        tl.store(p_bits + plane + o_bytes, pack(tl.where(b_reached, 0, tl.where(m, 1, 0))), mask=m_bytes)


@triton.jit
def frozen_kernel(
    p_u, p_b, p_s, p_bits, p_y, n, plane, slope, gain, edge,
    HAS_BIAS: tl.constexpr, HAS_SCALE: tl.constexpr, HAS_CLAMP: tl.constexpr, CONSTANT: tl.constexpr,
    CHANNELS: tl.constexpr, INNER: tl.constexpr, SAMPLE: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    o = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    m = o < n
    b_z = tl.load(p_u + o, mask=m, other=0.0).to(COMPUTE)
    b_s = load_scale(p_s, o, m, HAS_SCALE, SAMPLE, COMPUTE)
    if HAS_BIAS:
        b_z += b_s * tl.load(p_b + (o // INNER) % CHANNELS, mask=m, other=0.0).to(COMPUTE)
    positive = load_bit(p_bits, o, m)
    b_y = gain * tl.where(positive, b_z, b_z * slope)
    if HAS_CLAMP:
        b_edge = tl.full(b_y.shape, 0.0, COMPUTE)
        if CONSTANT:
            b_edge = b_s * tl.where(positive, edge, -edge)
        b_y = tl.where(load_bit(p_bits + plane, o, m), b_y, b_edge)
    tl.store(p_y + o, b_y.to(p_y.dtype.element_ty), mask=m)


@triton.jit
def grad_tile(
    p_dy, p_s, p_bits, p_du, o, m, plane, slope, gain,
    HAS_SCALE: tl.constexpr, HAS_CLAMP: tl.constexpr, SAMPLE: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Stores du of the elements at offsets o and returns s du; 0 where there is no element."""
    positive = load_bit(p_bits, o, m)
    b_du = tl.load(p_dy + o, mask=m, other=0.0).to(COMPUTE) * tl.where(positive, gain, gain * slope)
    if HAS_CLAMP:
        b_du = tl.where(load_bit(p_bits + plane, o, m), b_du, 0.0)
    tl.store(p_du + o, b_du.to(p_du.dtype.element_ty), mask=m)
    return tl.where(m, load_scale(p_s, o, m, HAS_SCALE, SAMPLE, COMPUTE) * b_du, 0.0)


@triton.jit
def grad_along_kernel(
    p_dy, p_s, p_bits, p_du, p_sums, rows, plane, slope, gain,
    HAS_SCALE: tl.constexpr, HAS_CLAMP: tl.constexpr, HAS_SUMS: tl.constexpr, COLUMNS: tl.constexpr,
    SAMPLE: tl.constexpr, COMPUTE: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """A tile of R rows of one channel each and C of their COLUMNS elements; sums[column block, row]."""
    blocks = tl.cdiv(COLUMNS, C)
    row = (tl.program_id(0) // blocks).to(tl.int64) * R + tl.arange(0, R)
    block = tl.program_id(0) % blocks
    column = block * C + tl.arange(0, C)
    o = row[:, None] * COLUMNS + column[None, :]
    m = (row < rows)[:, None] & (column < COLUMNS)[None, :]
    b_scaled = grad_tile(p_dy, p_s, p_bits, p_du, o, m, plane, slope, gain, HAS_SCALE, HAS_CLAMP, SAMPLE, COMPUTE)
    if HAS_SUMS:
        tl.store(p_sums + block.to(tl.int64) * rows + row, tl.sum(b_scaled, axis=1), mask=row < rows)


@triton.jit
def grad_across_kernel(
    p_dy, p_s, p_bits, p_du, p_sums, rows, plane, slope, gain,
    HAS_SCALE: tl.constexpr, HAS_CLAMP: tl.constexpr, HAS_SUMS: tl.constexpr, COLUMNS: tl.constexpr,
    SAMPLE: tl.constexpr, COMPUTE: tl.constexpr, R: tl.constexpr, C: tl.constexpr, REPEATS: tl.constexpr,
):  # fmt: skip
    """REPEATS tiles of R rows of all channels and C of their COLUMNS elements; sums[row block, column]."""
    blocks = tl.cdiv(COLUMNS, C)
    group = (tl.program_id(0) // blocks).to(tl.int64)
    column = (tl.program_id(0) % blocks) * C + tl.arange(0, C)
    b_sums = tl.full((C,), 0.0, COMPUTE)
    for i in tl.static_range(REPEATS):
        row = (group * REPEATS + i) * R + tl.arange(0, R)
        o = row[:, None] * COLUMNS + column[None, :]
        m = (row < rows)[:, None] & (column < COLUMNS)[None, :]
        b_scaled = grad_tile(p_dy, p_s, p_bits, p_du, o, m, plane, slope, gain, HAS_SCALE, HAS_CLAMP, SAMPLE, COMPUTE)
        b_sums += tl.sum(b_scaled, axis=0)
    if HAS_SUMS:
        tl.store(p_sums + group * COLUMNS + column, b_sums, mask=column < COLUMNS)


# --- launchers ----------------------------------------------------------------------------------------------------
#
# Tensors are dense in one memory order, seen in it as layout = (outer, channels, inner). bits holds one plane, or two
# with a clamp, of (n + 7) // 8 bytes each.


def _run(kernel, blocks: int, x: Tensor, arguments: tuple, constants: dict) -> None:
    # A thread moves 16 bytes of each tensor, the widest access: 4 elements of float32, 8 of float16.
    warps = BLOCK * x.element_size() // (16 * 32)
    launch(kernel, blocks, warps, x, arguments, constants | {"COMPUTE": tl.float32})


def _plane(x: Tensor) -> int:
    return (x.numel() + 7) // 8


def _sample(x: Tensor, s: Tensor | None) -> int:
    """The number of elements of one sample."""
    return 1 if s is None else max(x.numel() // max(s.numel(), 1), 1)


def forward(
    x: Tensor, b: Tensor | None, y: Tensor, bits: Tensor, layout, act: str, alpha: float, gain: float, clamp
) -> None:
    """y = clamp(gain f(x + b)) and its mask; y may be x."""
    _, channels, inner = layout
    arguments = (x, b, y, bits, x.numel(), _plane(x), alpha, gain, clamp or 0.0)
    constants = {"ACT": CODES[act], "HAS_BIAS": b is not None, "HAS_CLAMP": clamp is not None}
    constants |= {"CHANNELS": channels, "INNER": inner, "BLOCK": BLOCK}
    _run(mask_kernel, triton.cdiv(x.numel(), BLOCK), x, arguments, constants)


def frozen(
    u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor, y: Tensor,
    layout, slope: float, gain: float, clamp, constant: bool,
) -> None:  # fmt: skip
    """y = p (u + s b); where clamped, s clamp with its sign if `constant`, else 0."""
    _, channels, inner = layout
    edge = (clamp or 0.0) * (-1.0 if gain < 0 else 1.0)
    arguments = (u, b, s, bits, y, u.numel(), _plane(u), slope, gain, edge)
    constants = {"HAS_BIAS": b is not None, "HAS_SCALE": s is not None, "HAS_CLAMP": clamp is not None}
    constants |= {"CONSTANT": constant, "CHANNELS": channels, "INNER": inner, "SAMPLE": _sample(u, s), "BLOCK": BLOCK}
    _run(frozen_kernel, triton.cdiv(u.numel(), BLOCK), u, arguments, constants)


def grad(
    dy: Tensor, s: Tensor | None, bits: Tensor, du: Tensor, db: Tensor | None,
    layout, slope: float, gain: float, clamped: bool,
) -> None:  # fmt: skip
    """du = p dy; db, if given, is filled with the sums of s du over each channel."""
    outer, channels, inner = layout
    along = inner >= ROW  # otherwise the sums over rows are shorter than those across them
    rows, columns = (outer * channels, inner) if along else (outer, channels * inner)
    c = min(triton.next_power_of_2(max(columns, 1)), BLOCK if along else 128)
    r = BLOCK // c
    row_blocks, column_blocks = triton.cdiv(rows, r if along else r * REPEATS), triton.cdiv(columns, c)
    sums = None
    if db is not None:
        sums = db.new_empty((column_blocks, rows) if along else (row_blocks, columns))
    arguments = (dy, s, bits, du, sums, rows, _plane(dy), slope, gain)
    constants = {"HAS_SCALE": s is not None, "HAS_CLAMP": clamped, "HAS_SUMS": db is not None}
    constants |= {"COLUMNS": columns, "SAMPLE": _sample(dy, s), "R": r, "C": c} | (
        {} if along else {"REPEATS": REPEATS}
    )
    kernel = grad_along_kernel if along else grad_across_kernel
    _run(kernel, row_blocks * column_blocks if dy.numel() else 0, dy, arguments, constants)
    if db is not None and sums is not None:
        parts = (column_blocks, outer, channels) if along else (row_blocks, channels, inner)
        torch.sum(sums.view(parts), dim=(0, 1) if along else (0, 2), out=db)
