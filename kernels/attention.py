"""Softmax attention and its first two derivatives without the N x M matrix, for the GPU (csrc/attention.h has the
formulas and the names).

Tiles of queries against keys live in registers; their products run on tensor cores, in tf32 in three parts for float32,
which keeps its accuracy. Nothing is added up across programs: a program has a block of queries and goes through the
keys, or the other way round, and both compute the tile anew. Softmax and all sums are float32; tiles are rounded to the
tensors' dtype before they are multiplied, as in FlashAttention (Dao et al. 2022, arXiv:2205.14135).

A bias's gradient that is shared by heads has programs of its own, which go through these heads.
"""

import triton
import triton.language as tl
from torch import Tensor

from fastgan import allocation

from .attention_grad2 import grad2
from .attention_tiles import (
    block_of,
    blocks_of,
    constants_of,
    flags_of,
    load_sums,
    output_products,
    probabilities,
    product,
    rows_of,
    scores_of,
    sizes_and_bias,
    store_rows,
)
from .launch import launch

__all__ = ["forward", "grad", "grad2"]


@triton.jit
def forward_kernel(
    p_q, p_k, p_v, p_bias, p_o, p_softmax, N, M, d, e, scale, inner, count,
    HAS_BIAS: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    STEPS: tl.constexpr, OPERAND: tl.constexpr, BLOCK: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_E: tl.constexpr, CHUNK_D: tl.constexpr, CHUNK_E: tl.constexpr,
):  # fmt: skip
    head, o_i = block_of(N, BLOCK)
    wide = head.to(tl.int64)
    h_q = p_q + wide * N * d
    h_k = p_k + wide * M * d
    h_v = p_v + wide * M * e
    o_e = tl.arange(0, WIDTH_E)
    highest = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    b_o = tl.zeros((BLOCK, WIDTH_E), tl.float32)
    for step in range(STEPS):
        o_j = step * BLOCK + tl.arange(0, BLOCK)
        b_s = scores_of(
            h_q, h_k, p_bias, head, o_i, o_j, N, M, d, scale, inner, count,
            HAS_BIAS, BY_ROW, BY_COLUMN, OPERAND, BLOCK, WIDTH_D, CHUNK_D,
        )  # fmt: skip
        now = tl.maximum(highest, tl.max(b_s, 1))
        base = tl.where(now == float("-inf"), 0.0, now)  # nothing but masked keys so far
        b_p = tl.exp(b_s - base[:, None])
        shrink = tl.exp(highest - base)
        total = total * shrink + tl.sum(b_p, 1)
        b_o = tl.dot(
            b_p.to(OPERAND), rows_of(h_v, o_j, o_e, M, e, OPERAND), b_o * shrink[:, None], input_precision="tf32x3"
        )  # fmt: skip
        highest = now
    if HAS_BIAS:
        masked = total == 0.0
        highest = tl.where(masked, 0.0, highest)
        inverse = tl.where(masked, 0.0, 1.0 / tl.where(masked, 1.0, total))
        b_o = tl.where(masked[:, None], 0.0, b_o)
    else:
        inverse = 1.0 / total
    b_o = b_o * inverse[:, None]
    store_rows(p_o + wide * N * e, b_o, o_i, o_e, N, e)
    tl.store(p_softmax + 2 * (wide * N + o_i), highest, mask=o_i < N)
    tl.store(p_softmax + 2 * (wide * N + o_i) + 1, inverse, mask=o_i < N)


@triton.jit
def grad_queries_kernel(
    p_q, p_k, p_v, p_bias, p_g, p_softmax, p_D, p_dq, N, M, d, e, scale, inner, count,
    HAS_BIAS: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    STEPS: tl.constexpr, OPERAND: tl.constexpr, BLOCK: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_E: tl.constexpr, CHUNK_D: tl.constexpr, CHUNK_E: tl.constexpr,
):  # fmt: skip
    head, o_i = block_of(N, BLOCK)
    wide = head.to(tl.int64)
    h_q = p_q + wide * N * d
    h_k = p_k + wide * M * d
    h_v = p_v + wide * M * e
    h_g = p_g + wide * N * e
    o_d = tl.arange(0, WIDTH_D)
    D = load_sums(p_D, head, o_i, N)
    b_dq = tl.zeros((BLOCK, WIDTH_D), tl.float32)
    for step in range(STEPS):
        o_j = step * BLOCK + tl.arange(0, BLOCK)
        b_s = scores_of(
            h_q, h_k, p_bias, head, o_i, o_j, N, M, d, scale, inner, count,
            HAS_BIAS, BY_ROW, BY_COLUMN, OPERAND, BLOCK, WIDTH_D, CHUNK_D,
        )  # fmt: skip
        b_g_v = product(h_g, o_i, N, h_v, o_j, M, e, WIDTH_E, CHUNK_E, OPERAND, BLOCK)
        b_ds = probabilities(b_s, p_softmax, head, o_i, N) * (b_g_v - D)
        b_dq = tl.dot(b_ds.to(OPERAND), rows_of(h_k, o_j, o_d, M, d, OPERAND), b_dq, input_precision="tf32x3")
    store_rows(p_dq + wide * N * d, b_dq * scale, o_i, o_d, N, d)


@triton.jit
def grad_keys_kernel(
    p_q, p_k, p_v, p_bias, p_g, p_softmax, p_D, p_dk, p_dv, p_dbias, N, M, d, e, scale, inner, count,
    HAS_BIAS: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr, SUMS_BIAS: tl.constexpr,
    STEPS: tl.constexpr, OPERAND: tl.constexpr, BLOCK: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_E: tl.constexpr, CHUNK_D: tl.constexpr, CHUNK_E: tl.constexpr,
):  # fmt: skip
    """The gradients to keys and values, and, with SUMS_BIAS, each head's to a bias of keys."""
    head, o_j = block_of(M, BLOCK)
    wide = head.to(tl.int64)
    h_q = p_q + wide * N * d
    h_k = p_k + wide * M * d
    h_v = p_v + wide * M * e
    h_g = p_g + wide * N * e
    o_d, o_e = tl.arange(0, WIDTH_D), tl.arange(0, WIDTH_E)
    b_dk = tl.zeros((BLOCK, WIDTH_D), tl.float32)
    b_dv = tl.zeros((BLOCK, WIDTH_E), tl.float32)
    b_dbias = tl.zeros((BLOCK,), tl.float32)
    for step in range(STEPS):
        o_i = step * BLOCK + tl.arange(0, BLOCK)
        b_s = scores_of(
            h_q, h_k, p_bias, head, o_i, o_j, N, M, d, scale, inner, count,
            HAS_BIAS, BY_ROW, BY_COLUMN, OPERAND, BLOCK, WIDTH_D, CHUNK_D,
        )  # fmt: skip
        b_p = probabilities(b_s, p_softmax, head, o_i, N)
        b_dv = tl.dot(tl.trans(b_p.to(OPERAND)), rows_of(h_g, o_i, o_e, N, e, OPERAND), b_dv, input_precision="tf32x3")
        b_ds = b_p * (
            product(h_g, o_i, N, h_v, o_j, M, e, WIDTH_E, CHUNK_E, OPERAND, BLOCK) - load_sums(p_D, head, o_i, N)
        )
        b_dk = tl.dot(tl.trans(b_ds.to(OPERAND)), rows_of(h_q, o_i, o_d, N, d, OPERAND), b_dk, input_precision="tf32x3")
        if SUMS_BIAS:
            b_dbias += tl.sum(b_ds, 0)
    store_rows(p_dk + wide * M * d, b_dk * scale, o_j, o_d, M, d)
    store_rows(p_dv + wide * M * e, b_dv, o_j, o_e, M, e)
    if SUMS_BIAS:
        tl.store(p_dbias + wide * M + o_j, b_dbias, mask=o_j < M)


@triton.jit
def grad_bias_kernel(
    p_q, p_k, p_v, p_bias, p_g, p_softmax, p_D, p_dbias, N, M, d, e, scale, inner, count,
    BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    STEPS: tl.constexpr, OPERAND: tl.constexpr, BLOCK: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_E: tl.constexpr, CHUNK_D: tl.constexpr, CHUNK_E: tl.constexpr,
):  # fmt: skip
    """The gradient to one tile of a bias of queries and keys, over the heads that share it."""
    tiles = tl.cdiv(M, BLOCK)
    shared, o_i = tl.program_id(0) // tiles // tl.cdiv(N, BLOCK), tl.program_id(0) // tiles % tl.cdiv(N, BLOCK)
    o_i = o_i * BLOCK + tl.arange(0, BLOCK)
    o_j = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    b_dbias = tl.zeros((BLOCK, BLOCK), tl.float32)
    for n in range(STEPS):
        head = (n // inner * count + shared) * inner + n % inner
        wide = head.to(tl.int64)
        h_q = p_q + wide * N * d
        h_k = p_k + wide * M * d
        h_v = p_v + wide * M * e
        h_g = p_g + wide * N * e
        b_s = scores_of(
            h_q, h_k, p_bias, head, o_i, o_j, N, M, d, scale, inner, count,
            True, BY_ROW, BY_COLUMN, OPERAND, BLOCK, WIDTH_D, CHUNK_D,
        )  # fmt: skip
        b_g_v = product(h_g, o_i, N, h_v, o_j, M, e, WIDTH_E, CHUNK_E, OPERAND, BLOCK)
        b_p = probabilities(b_s, p_softmax, head, o_i, N)
        b_dbias += b_p * (b_g_v - load_sums(p_D, head, o_i, N))
    store_rows(p_dbias + shared.to(tl.int64) * N * M, b_dbias, o_i, o_j, N, M)


# --- launchers ----------------------------------------------------------------------------------------------------
#
# What x, found and args are: fastgan/ops/attention/layout.py.


def block_for(x: Tensor, args) -> int:
    """Queries and keys of a tile of forward and grad: what leaves a program's sums in its registers."""
    return 32 if max(args.d, args.e) <= 128 and x.element_size() == 2 else 16


def forward(x, o: Tensor, softmax: Tensor, args) -> None:
    """Fills the output, and what the derivatives compute the softmax from."""
    constants = constants_of(x.q, args, block_for(x.q, args)) | flags_of(x, args)
    of_queries, of_keys = blocks_of(args, constants)
    arguments = (*x[:4], o, softmax, *sizes_and_bias(args))
    launch(forward_kernel, args.heads * of_queries, 4, x.q, arguments, constants | {"STEPS": of_keys}, 2)


def grad(x, found, args) -> None:
    """Fills the gradients that are wanted."""
    constants = constants_of(x.q, args, block_for(x.q, args))
    flags, rest = flags_of(x, args), sizes_and_bias(args)
    of_queries, of_keys = blocks_of(args, constants)
    inputs = (*x[:5], x.softmax, output_products(x, args, constants))
    if found.q is not None:
        fixed = constants | flags | {"STEPS": of_keys}
        launch(grad_queries_kernel, args.heads * of_queries, 4, x.q, (*inputs, found.q, *rest), fixed, 2)
    sums_bias = found.bias is not None and not args.by_row
    if found.k is not None or found.v is not None or sums_bias:
        dk, dv = (allocation.empty_like(t) if y is None else y for t, y in ((x.k, found.k), (x.v, found.v)))
        arguments = (*inputs, dk, dv, found.bias if sums_bias else None, *rest)
        fixed = constants | flags | {"STEPS": of_queries, "SUMS_BIAS": sums_bias}
        launch(grad_keys_kernel, args.heads * of_keys, 4, x.q, arguments, fixed, 2)
    if found.bias is not None and args.by_row:
        del flags["HAS_BIAS"]
        fixed = constants | flags | {"STEPS": args.heads // args.bias_count}
        programs = args.bias_count * of_queries * of_keys
        launch(grad_bias_kernel, programs, 4, x.q, (*inputs, found.bias, *rest), fixed, 2)
