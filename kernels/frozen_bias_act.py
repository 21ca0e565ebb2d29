"""bias_act that keeps one bit per element, the activation frozen at those bits, and its gradient, for the GPU.

Memory-bound: a tensor is read once and written once, the bits are 1/32 of a float32 tensor. The forward kernel packs
the flags of eight neighbours into a byte. db costs no pass of its own: blocks write
partial sums, which torch.sum reduces; no atomics, so that results repeat. Arithmetic is float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .bias_act import BLOCK, CODES, activate, load_with_bias, offsets
from .launch import launch

REPEATS = 4  # tiles of rows that a program sums when it sums over rows
ROW = 32  # a row of at least this many elements is summed by itself


@triton.jit
def store_bits(p_bits, b_flags, n, BLOCK: tl.constexpr):
    """Packs [BLOCK] of 0 and 1, the flags of this program's elements: the first of eight in the lowest bit."""
    b_eights = tl.reshape(b_flags, (BLOCK // 8, 8)) << tl.arange(0, 8)[None, :]
    o = tl.program_id(0).to(tl.int64) * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
    tl.store(p_bits + o, tl.sum(b_eights, axis=1).to(tl.uint8), mask=o * 8 < n)


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
    o, m = offsets(n, BLOCK)
    b_z = load_with_bias(p_x, p_b, o, m, HAS_BIAS, CHANNELS, INNER, COMPUTE)
    b_y = gain * activate(b_z, alpha, ACT)
    if HAS_CLAMP:
        b_y = tl.where(b_y > clamp, clamp, tl.where(b_y < -clamp, -clamp, b_y))
    b_stored = b_y.to(p_y.dtype.element_ty)
    tl.store(p_y + o, b_stored, mask=m)
    store_bits(p_bits, tl.where((b_z > 0) & m, 1, 0), n, BLOCK)
    if HAS_CLAMP:
        # As stored: in the tensor's type a clamp such as 0.65 may have been rounded down.
        saved_clamp = (tl.full(b_y.shape, 0.0, COMPUTE) + clamp).to(p_y.dtype.element_ty).to(COMPUTE)
        b_reached = tl.abs(b_stored.to(COMPUTE)) >= saved_clamp
        store_bits(p_bits + plane, tl.where(b_reached, 0, tl.where(m, 1, 0)), n, BLOCK)


@triton.jit
def frozen_kernel(
    p_u, p_b, p_s, p_bits, p_y, n, plane, slope, gain, edge,
    HAS_BIAS: tl.constexpr, HAS_SCALE: tl.constexpr, HAS_CLAMP: tl.constexpr, CONSTANT: tl.constexpr,
    CHANNELS: tl.constexpr, INNER: tl.constexpr, SAMPLE: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    o, m = offsets(n, BLOCK)
    b_z = tl.load(p_u + o, mask=m, other=0.0).to(COMPUTE)
    b_s = load_scale(p_s, o, m, HAS_SCALE, SAMPLE, COMPUTE)
    if HAS_BIAS:
        b_z += b_s * tl.load(p_b + (o // INNER) % CHANNELS, mask=m, other=0.0).to(COMPUTE)
    positive = load_bit(p_bits, o, m)
    b_y = gain * tl.where(positive, b_z, tl.where(slope == 0, 0.0, b_z * slope))  # 0 of infinity too, as relu
    if HAS_CLAMP:
        b_edge = tl.full(b_y.shape, 0.0, COMPUTE)
        if CONSTANT:
            b_edge = b_s * tl.where(positive, edge, -edge)
        b_y = tl.where(load_bit(p_bits + plane, o, m), b_y, b_edge)
    tl.store(p_y + o, b_y.to(p_y.dtype.element_ty), mask=m)


@triton.jit
def grad_tile(p_dy, p_bits, p_du, o, m, plane, slope, gain, HAS_CLAMP: tl.constexpr, COMPUTE: tl.constexpr):
    """Stores du of the elements at offsets o and returns it; 0 where there is no element."""
    positive = load_bit(p_bits, o, m)
    b_dy = tl.load(p_dy + o, mask=m, other=0.0).to(COMPUTE)
    b_factor = tl.where(positive, gain, gain * slope)
    b_du = tl.where(b_factor == 0, 0.0, b_dy * b_factor)  # 0 of infinity too, as relu
    if HAS_CLAMP:
        b_du = tl.where(load_bit(p_bits + plane, o, m), b_du, 0.0)
    tl.store(p_du + o, b_du.to(p_du.dtype.element_ty), mask=m)
    return tl.where(m, b_du, 0.0)


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
    b_du = grad_tile(p_dy, p_bits, p_du, o, m, plane, slope, gain, HAS_CLAMP, COMPUTE)
    if HAS_SUMS:  # a row is of one sample
        b_s = load_scale(p_s, row * COLUMNS, row < rows, HAS_SCALE, SAMPLE, COMPUTE)
        tl.store(p_sums + block.to(tl.int64) * rows + row, b_s * tl.sum(b_du, axis=1), mask=row < rows)


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
    b_tile = tl.full((R, C), 0.0, COMPUTE)
    for i in range(REPEATS):
        row = (group * REPEATS + i) * R + tl.arange(0, R)
        o = row[:, None] * COLUMNS + column[None, :]
        m = (row < rows)[:, None] & (column < COLUMNS)[None, :]
        b_du = grad_tile(p_dy, p_bits, p_du, o, m, plane, slope, gain, HAS_CLAMP, COMPUTE)
        if HAS_SUMS:
            if SAMPLE % COLUMNS == 0:  # a row is of one sample
                b_tile += load_scale(p_s, row * COLUMNS, row < rows, HAS_SCALE, SAMPLE, COMPUTE)[:, None] * b_du
            else:
                b_tile += load_scale(p_s, o, m, HAS_SCALE, SAMPLE, COMPUTE) * b_du
    if HAS_SUMS:
        tl.store(p_sums + group * COLUMNS + column, tl.sum(b_tile, axis=0), mask=column < COLUMNS)


# --- launchers ----------------------------------------------------------------------------------------------------
#
# Tensors are dense in one memory order. bits holds one plane, or two with a clamp, of (n + 7) // 8 bytes each. args:
# layout = (outer, channels, inner), their sizes in memory order; gain and clamp (None for no clamp); act and alpha for
# `forward`, for the others the slope of the negative side, and whether clamped elements have their constant.


def _run(kernel, blocks: int, x: Tensor, arguments: tuple, constants: dict, warps: int = 8) -> None:
    launch(kernel, blocks, warps, x, arguments, constants | {"COMPUTE": tl.float32})


def _warps(x: Tensor) -> int:
    """As many as let a thread move 16 bytes of each tensor, the widest access."""
    return BLOCK * x.element_size() // (16 * 32)


def _plane(x: Tensor) -> int:
    return (x.numel() + 7) // 8


def _sample(x: Tensor, s: Tensor | None) -> int:
    """The number of elements of one sample."""
    return 1 if s is None else max(x.numel() // max(s.numel(), 1), 1)


def forward(x: Tensor, b: Tensor | None, y: Tensor, bits: Tensor, args) -> None:
    """y = clamp(gain f(x + b)) and its mask; y may be x."""
    _, channels, inner = args.layout
    arguments = (x, b, y, bits, x.numel(), _plane(x), args.alpha, args.gain, args.clamp or 0.0)
    constants = {"ACT": CODES[args.act], "HAS_BIAS": b is not None, "HAS_CLAMP": args.clamp is not None}
    constants |= {"CHANNELS": channels, "INNER": inner, "BLOCK": BLOCK}
    _run(mask_kernel, triton.cdiv(x.numel(), BLOCK), x, arguments, constants, _warps(x))


def frozen(u: Tensor, b: Tensor | None, s: Tensor | None, bits: Tensor, y: Tensor, args) -> None:
    """y = p (u + s b); where clamped, s clamp with its sign if `args.constant`, else 0."""
    _, channels, inner = args.layout
    edge = (args.clamp or 0.0) * (-1.0 if args.gain < 0 else 1.0)
    arguments = (u, b, s, bits, y, u.numel(), _plane(u), args.slope, args.gain, edge)
    constants = {"HAS_BIAS": b is not None, "HAS_SCALE": s is not None, "HAS_CLAMP": args.clamp is not None}
    constants |= {"CHANNELS": channels, "INNER": inner, "SAMPLE": _sample(u, s), "BLOCK": BLOCK}
    constants["CONSTANT"] = args.constant
    _run(frozen_kernel, triton.cdiv(u.numel(), BLOCK), u, arguments, constants, _warps(u))


def grad(dy: Tensor, s: Tensor | None, bits: Tensor, du: Tensor, db: Tensor | None, args) -> None:
    """du = p dy; db, if given, is filled with the sums of s du over each channel."""
    outer, channels, inner = args.layout
    along = inner >= ROW  # otherwise the sums over rows are shorter than those across them
    rows, columns = (outer * channels, inner) if along else (outer, channels * inner)
    c = min(triton.next_power_of_2(max(columns, 1)), BLOCK if along else 128)
    tile = BLOCK if along else BLOCK // 2  # fewer elements for a thread that keeps sums of its own
    r = tile // c
    row_blocks, column_blocks = triton.cdiv(rows, r if along else r * REPEATS), triton.cdiv(columns, c)
    sums = None
    if db is not None:
        sums = db.new_empty((column_blocks, rows) if along else (row_blocks, columns))
    arguments = (dy, s, bits, du, sums, rows, _plane(dy), args.slope, args.gain)
    constants = {"HAS_SCALE": s is not None, "HAS_CLAMP": args.clamp is not None, "HAS_SUMS": db is not None}
    constants |= {"COLUMNS": columns, "SAMPLE": _sample(dy, s), "R": r, "C": c}
    if not along:
        constants["REPEATS"] = REPEATS
    kernel = grad_along_kernel if along else grad_across_kernel
    _run(kernel, row_blocks * column_blocks if dy.numel() else 0, dy, arguments, constants)
    if db is not None and sums is not None:
        parts = (column_blocks, outer, channels) if along else (row_blocks, channels, inner)
        torch.sum(sums.view(parts), dim=(0, 1) if along else (0, 2), out=db)
