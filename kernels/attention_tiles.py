"""What the kernels of attention share: blocks of queries and keys, their scores, and what the launchers tell them.

Tensors are contiguous with one dimension of heads, bias and sums in float32; `args` is the KernelArgs of
fastgan/ops/attention/layout.py, and a bias is indexed as csrc/attention.h says.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan import allocation

from .launch import launch


@triton.jit
def rows_of(p, o_r, o_c, rows, width, OPERAND: tl.constexpr):
    """A block of a matrix [rows, width]; zeros outside."""
    m = (o_r < rows)[:, None] & (o_c < width)[None, :]
    return tl.load(p + o_r[:, None].to(tl.int64) * width + o_c[None, :], mask=m, other=0.0).to(OPERAND)


@triton.jit
def store_rows(p, b_x, o_r, o_c, rows, width):
    m = (o_r < rows)[:, None] & (o_c < width)[None, :]
    tl.store(p + o_r[:, None].to(tl.int64) * width + o_c[None, :], b_x.to(p.dtype.element_ty), mask=m)


@triton.jit
def product(
    p_x, o_x, X, p_y, o_y, Y, width, WIDTH: tl.constexpr, CHUNK: tl.constexpr, OPERAND: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """x y', of rows o_x of a matrix [X, width] and rows o_y of [Y, width].

    Some columns at a time, read from the cache each time: whole rows of both would fill a program's registers.
    """
    b_sum = tl.zeros((BLOCK, BLOCK), tl.float32)
    for chunk in range(WIDTH // CHUNK):
        o_c = chunk * CHUNK + tl.arange(0, CHUNK)
        b_x, b_y = rows_of(p_x, o_x, o_c, X, width, OPERAND), rows_of(p_y, o_y, o_c, Y, width, OPERAND)
        b_sum = tl.dot(b_x, tl.trans(b_y), b_sum, input_precision="tf32x3")
    return b_sum


@triton.jit
def bias_of(p, head, o_i, o_j, N, M, inner, count, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr):
    """The bias, or what is laid out like it, of a tile."""
    rows, columns = N if BY_ROW else 1, M if BY_COLUMN else 1
    first = (head // inner % count).to(tl.int64) * rows * columns
    o_r = o_i.to(tl.int64) * columns if BY_ROW else o_i * 0
    o_c = o_j if BY_COLUMN else o_j * 0
    m = (o_i < N)[:, None] & (o_j < M)[None, :]
    return tl.load(p + first + o_r[:, None] + o_c[None, :], mask=m, other=0.0)


@triton.jit
def scores_of(
    p_q, p_k, p_bias, head, o_i, o_j, N, M, d, scale, inner, count,
    HAS_BIAS: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    OPERAND: tl.constexpr, BLOCK: tl.constexpr, WIDTH_D: tl.constexpr, CHUNK_D: tl.constexpr,
):  # fmt: skip
    """S of a tile, -inf past the last key; p_q and p_k point to the head's."""
    b_s = product(p_q, o_i, N, p_k, o_j, M, d, WIDTH_D, CHUNK_D, OPERAND, BLOCK) * scale
    if HAS_BIAS:
        b_s += bias_of(p_bias, head, o_i, o_j, N, M, inner, count, BY_ROW, BY_COLUMN)
    return tl.where((o_j < M)[None, :], b_s, float("-inf"))


@triton.jit
def block_of(length, BLOCK: tl.constexpr):
    """This program's head and rows, of a tensor with `length` rows for each head."""
    blocks = tl.cdiv(length, BLOCK)
    return tl.program_id(0) // blocks, (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def load_sums(p, head, o_i, N):
    """One number for each query."""
    return tl.load(p + head.to(tl.int64) * N + o_i, mask=o_i < N, other=0.0)[:, None]


@triton.jit
def probabilities(b_s, p_softmax, head, o_i, N):
    """P of a tile's scores; zeros past the last query, whose inverse sum is read as zero."""
    o = 2 * (head.to(tl.int64) * N + o_i)
    highest = tl.load(p_softmax + o, mask=o_i < N, other=0.0)
    inverse = tl.load(p_softmax + o + 1, mask=o_i < N, other=0.0)
    return tl.where((o_i < N)[:, None], tl.exp(b_s - highest[:, None]), 0.0) * inverse[:, None]


@triton.jit
def output_products_kernel(p_g, p_o, p_D, rows, e, BLOCK: tl.constexpr, WIDTH_E: tl.constexpr):
    """D, the products of g with the outputs."""
    o_r = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    o_e = tl.arange(0, WIDTH_E)
    b_g, b_o = rows_of(p_g, o_r, o_e, rows, e, tl.float32), rows_of(p_o, o_r, o_e, rows, e, tl.float32)
    tl.store(p_D + o_r, tl.sum(b_g * b_o, 1), mask=o_r < rows)


# --- launchers ----------------------------------------------------------------------------------------------------


INTERPRETED = not isinstance(output_products_kernel, triton.JITFunction)


def operand_of(x: Tensor):
    """The dtype in which tiles are multiplied. The interpreter multiplies what bfloat16 is stored in."""
    if x.dtype == torch.float32 or (INTERPRETED and x.dtype == torch.bfloat16):
        return tl.float32
    return tl.bfloat16 if x.dtype == torch.bfloat16 else tl.float16


def constants_of(x: Tensor, args, block: int) -> dict:
    """The constants of every kernel, for tiles of `block` queries and keys; the interpreter pays for each tile, not for
    its size."""
    block = 64 if INTERPRETED else block
    most = 16 if x.element_size() == 4 else 64
    width_d, width_e = (max(triton.next_power_of_2(size), 16) for size in (args.d, args.e))
    chunks = {"CHUNK_D": min(width_d, most), "CHUNK_E": min(width_e, most)}
    return {"OPERAND": operand_of(x), "BLOCK": block, "WIDTH_D": width_d, "WIDTH_E": width_e, **chunks}


def blocks_of(args, constants: dict) -> tuple[int, int]:
    """How many blocks a head has of queries and of keys."""
    return triton.cdiv(args.N, constants["BLOCK"]), triton.cdiv(args.M, constants["BLOCK"])


def sizes_and_bias(args) -> tuple:
    return args.N, args.M, args.d, args.e, args.scale, args.bias_inner, args.bias_count


def flags_of(x, args) -> dict:
    return {"HAS_BIAS": x.bias is not None, "BY_ROW": args.by_row, "BY_COLUMN": args.by_column}


def output_products(x, args, constants: dict) -> Tensor:
    """D."""
    rows = args.heads * args.N
    D = allocation.empty((rows,), like=x.q, dtype=torch.float32)
    fixed = {"BLOCK": constants["BLOCK"], "WIDTH_E": constants["WIDTH_E"]}
    launch(output_products_kernel, triton.cdiv(rows, fixed["BLOCK"]), 4, x.q, (x.g, x.o, D, rows, args.e), fixed)
    return D
