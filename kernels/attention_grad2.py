"""The second backward of softmax attention, for the GPU (csrc/attention.h has the formulas and the names)."""

import triton
import triton.language as tl

from fastgan import allocation

from .attention_tiles import (
    bias_of,
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


@triton.jit
def direction_of(
    h_q, h_a, h_k, h_b, p_t, head, o_i, o_j, N, M, d, scale, inner, count,
    HAS_A: tl.constexpr, HAS_B: tl.constexpr, HAS_T: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    OPERAND: tl.constexpr, BLOCK: tl.constexpr, WIDTH_D: tl.constexpr, CHUNK_D: tl.constexpr,
):  # fmt: skip
    """X of a tile; the first four point to the head's."""
    b_x = tl.zeros((BLOCK, BLOCK), tl.float32)
    if HAS_A:
        b_x += product(h_a, o_i, N, h_k, o_j, M, d, WIDTH_D, CHUNK_D, OPERAND, BLOCK) * scale
    if HAS_B:
        b_x += product(h_q, o_i, N, h_b, o_j, M, d, WIDTH_D, CHUNK_D, OPERAND, BLOCK) * scale
    if HAS_T:
        b_x += bias_of(p_t, head, o_i, o_j, N, M, inner, count, BY_ROW, BY_COLUMN)
    return b_x


@triton.jit
def outputs_kernel(
    p_q, p_k, p_v, p_bias, p_g, p_o, p_softmax, p_a, p_b, p_c, p_t, p_gg, p_r, p_w, N, M, d, e, scale, inner, count,
    HAS_BIAS: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    HAS_A: tl.constexpr, HAS_B: tl.constexpr, HAS_C: tl.constexpr, HAS_T: tl.constexpr,
    STEPS: tl.constexpr, OPERAND: tl.constexpr, BLOCK: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_E: tl.constexpr, CHUNK_D: tl.constexpr, CHUNK_E: tl.constexpr,
):  # fmt: skip
    """The gradient to g, and with it r and w."""
    head, o_i = block_of(N, BLOCK)
    wide = head.to(tl.int64)
    h_q = p_q + wide * N * d
    h_k = p_k + wide * M * d
    h_v = p_v + wide * M * e
    h_g = p_g + wide * N * e
    h_a = p_a + wide * N * d if HAS_A else h_q
    h_b = p_b + wide * M * d if HAS_B else h_k
    h_c = p_c + wide * M * e if HAS_C else h_v
    o_e = tl.arange(0, WIDTH_E)
    r = tl.zeros((BLOCK,), tl.float32)
    b_gg = tl.zeros((BLOCK, WIDTH_E), tl.float32)
    for step in range(STEPS):
        o_j = step * BLOCK + tl.arange(0, BLOCK)
        b_s = scores_of(
            h_q, h_k, p_bias, head, o_i, o_j, N, M, d, scale, inner, count,
            HAS_BIAS, BY_ROW, BY_COLUMN, OPERAND, BLOCK, WIDTH_D, CHUNK_D,
        )  # fmt: skip
        b_p = probabilities(b_s, p_softmax, head, o_i, N)
        b_x = direction_of(
            h_q, h_a, h_k, h_b, p_t, head, o_i, o_j, N, M, d, scale, inner, count,
            HAS_A, HAS_B, HAS_T, BY_ROW, BY_COLUMN, OPERAND, BLOCK, WIDTH_D, CHUNK_D,
        )  # fmt: skip
        r += tl.sum(b_p * b_x, 1)
        b_gg = tl.dot((b_p * b_x).to(OPERAND), rows_of(h_v, o_j, o_e, M, e, OPERAND), b_gg, input_precision="tf32x3")
        if HAS_C:
            b_gg = tl.dot(b_p.to(OPERAND), rows_of(h_c, o_j, o_e, M, e, OPERAND), b_gg, input_precision="tf32x3")
    b_gg -= r[:, None] * rows_of(p_o + wide * N * e, o_i, o_e, N, e, tl.float32)
    b_g = rows_of(h_g, o_i, o_e, N, e, tl.float32)
    tl.store(p_r + wide * N + o_i, r, mask=o_i < N)
    tl.store(p_w + wide * N + o_i, tl.sum(b_g * b_gg, 1), mask=o_i < N)
    store_rows(p_gg + wide * N * e, b_gg, o_i, o_e, N, e)


@triton.jit
def derivatives_of(
    h_q, h_a, h_g, h_k, h_b, h_v, h_c, p_bias, p_t, p_softmax, p_D, p_r, p_w,
    head, o_i, o_j, N, M, d, e, scale, inner, count,
    HAS_BIAS: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    HAS_A: tl.constexpr, HAS_B: tl.constexpr, HAS_C: tl.constexpr, HAS_T: tl.constexpr,
    OPERAND: tl.constexpr, BLOCK: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_E: tl.constexpr, CHUNK_D: tl.constexpr, CHUNK_E: tl.constexpr,
):  # fmt: skip
    """dS, Y and W of a tile; zeros past the last query and key."""
    b_s = scores_of(
        h_q, h_k, p_bias, head, o_i, o_j, N, M, d, scale, inner, count,
        HAS_BIAS, BY_ROW, BY_COLUMN, OPERAND, BLOCK, WIDTH_D, CHUNK_D,
    )  # fmt: skip
    b_p = probabilities(b_s, p_softmax, head, o_i, N)
    b_x = direction_of(
        h_q, h_a, h_k, h_b, p_t, head, o_i, o_j, N, M, d, scale, inner, count,
        HAS_A, HAS_B, HAS_T, BY_ROW, BY_COLUMN, OPERAND, BLOCK, WIDTH_D, CHUNK_D,
    )  # fmt: skip
    b_y = b_p * (b_x - load_sums(p_r, head, o_i, N))
    b_from_mean = product(h_g, o_i, N, h_v, o_j, M, e, WIDTH_E, CHUNK_E, OPERAND, BLOCK) - load_sums(p_D, head, o_i, N)
    b_rest = tl.zeros((BLOCK, BLOCK), tl.float32) - load_sums(p_w, head, o_i, N)
    if HAS_C:
        b_rest += product(h_g, o_i, N, h_c, o_j, M, e, WIDTH_E, CHUNK_E, OPERAND, BLOCK)
    return b_p * b_from_mean, b_y, b_y * b_from_mean + b_p * b_rest


@triton.jit
def queries_kernel(
    p_q, p_k, p_v, p_bias, p_g, p_softmax, p_a, p_b, p_c, p_t, p_D, p_r, p_w, p_gq, N, M, d, e, scale, inner, count,
    HAS_BIAS: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    HAS_A: tl.constexpr, HAS_B: tl.constexpr, HAS_C: tl.constexpr, HAS_T: tl.constexpr,
    STEPS: tl.constexpr, OPERAND: tl.constexpr, BLOCK: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_E: tl.constexpr, CHUNK_D: tl.constexpr, CHUNK_E: tl.constexpr,
):  # fmt: skip
    head, o_i = block_of(N, BLOCK)
    wide = head.to(tl.int64)
    h_q = p_q + wide * N * d
    h_k = p_k + wide * M * d
    h_v = p_v + wide * M * e
    h_g = p_g + wide * N * e
    h_a = p_a + wide * N * d if HAS_A else h_q
    h_b = p_b + wide * M * d if HAS_B else h_k
    h_c = p_c + wide * M * e if HAS_C else h_v
    o_d = tl.arange(0, WIDTH_D)
    b_gq = tl.zeros((BLOCK, WIDTH_D), tl.float32)
    for step in range(STEPS):
        o_j = step * BLOCK + tl.arange(0, BLOCK)
        b_ds, _, b_w = derivatives_of(
            h_q, h_a, h_g, h_k, h_b, h_v, h_c, p_bias, p_t, p_softmax, p_D, p_r, p_w,
            head, o_i, o_j, N, M, d, e, scale, inner, count, HAS_BIAS, BY_ROW, BY_COLUMN,
            HAS_A, HAS_B, HAS_C, HAS_T, OPERAND, BLOCK, WIDTH_D, WIDTH_E, CHUNK_D, CHUNK_E,
        )  # fmt: skip
        b_gq = tl.dot(b_w.to(OPERAND), rows_of(h_k, o_j, o_d, M, d, OPERAND), b_gq, input_precision="tf32x3")
        if HAS_B:
            b_gq = tl.dot(b_ds.to(OPERAND), rows_of(h_b, o_j, o_d, M, d, OPERAND), b_gq, input_precision="tf32x3")
    store_rows(p_gq + wide * N * d, b_gq * scale, o_i, o_d, N, d)


@triton.jit
def keys_kernel(
    p_q, p_k, p_v, p_bias, p_g, p_softmax, p_a, p_b, p_c, p_t, p_D, p_r, p_w, p_gk, p_gv, p_gbias,
    N, M, d, e, scale, inner, count,
    HAS_BIAS: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    HAS_A: tl.constexpr, HAS_B: tl.constexpr, HAS_C: tl.constexpr, HAS_T: tl.constexpr, SUMS_BIAS: tl.constexpr,
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
    h_a = p_a + wide * N * d if HAS_A else h_q
    h_b = p_b + wide * M * d if HAS_B else h_k
    h_c = p_c + wide * M * e if HAS_C else h_v
    o_d, o_e = tl.arange(0, WIDTH_D), tl.arange(0, WIDTH_E)
    b_gk = tl.zeros((BLOCK, WIDTH_D), tl.float32)
    b_gv = tl.zeros((BLOCK, WIDTH_E), tl.float32)
    b_gbias = tl.zeros((BLOCK,), tl.float32)
    for step in range(STEPS):
        o_i = step * BLOCK + tl.arange(0, BLOCK)
        b_ds, b_y, b_w = derivatives_of(
            h_q, h_a, h_g, h_k, h_b, h_v, h_c, p_bias, p_t, p_softmax, p_D, p_r, p_w,
            head, o_i, o_j, N, M, d, e, scale, inner, count, HAS_BIAS, BY_ROW, BY_COLUMN,
            HAS_A, HAS_B, HAS_C, HAS_T, OPERAND, BLOCK, WIDTH_D, WIDTH_E, CHUNK_D, CHUNK_E,
        )  # fmt: skip
        b_gv = tl.dot(tl.trans(b_y.to(OPERAND)), rows_of(h_g, o_i, o_e, N, e, OPERAND), b_gv, input_precision="tf32x3")
        b_gk = tl.dot(tl.trans(b_w.to(OPERAND)), rows_of(h_q, o_i, o_d, N, d, OPERAND), b_gk, input_precision="tf32x3")
        if HAS_A:
            b_gk = tl.dot(
                tl.trans(b_ds.to(OPERAND)), rows_of(h_a, o_i, o_d, N, d, OPERAND), b_gk, input_precision="tf32x3"
            )
        if SUMS_BIAS:
            b_gbias += tl.sum(b_w, 0)
    store_rows(p_gk + wide * M * d, b_gk * scale, o_j, o_d, M, d)
    store_rows(p_gv + wide * M * e, b_gv, o_j, o_e, M, e)
    if SUMS_BIAS:
        tl.store(p_gbias + wide * M + o_j, b_gbias, mask=o_j < M)


@triton.jit
def bias_kernel(
    p_q, p_k, p_v, p_bias, p_g, p_softmax, p_a, p_b, p_c, p_t, p_D, p_r, p_w, p_gbias,
    N, M, d, e, scale, inner, count,
    HAS_BIAS: tl.constexpr, BY_ROW: tl.constexpr, BY_COLUMN: tl.constexpr,
    HAS_A: tl.constexpr, HAS_B: tl.constexpr, HAS_C: tl.constexpr, HAS_T: tl.constexpr,
    STEPS: tl.constexpr, OPERAND: tl.constexpr, BLOCK: tl.constexpr,
    WIDTH_D: tl.constexpr, WIDTH_E: tl.constexpr, CHUNK_D: tl.constexpr, CHUNK_E: tl.constexpr,
):  # fmt: skip
    """The gradient to one tile of a bias of queries and keys, over the heads that share it."""
    tiles = tl.cdiv(M, BLOCK)
    shared, o_i = tl.program_id(0) // tiles // tl.cdiv(N, BLOCK), tl.program_id(0) // tiles % tl.cdiv(N, BLOCK)
    o_i = o_i * BLOCK + tl.arange(0, BLOCK)
    o_j = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    b_gbias = tl.zeros((BLOCK, BLOCK), tl.float32)
    for n in range(STEPS):
        head = (n // inner * count + shared) * inner + n % inner
        wide = head.to(tl.int64)
        h_q = p_q + wide * N * d
        h_k = p_k + wide * M * d
        h_v = p_v + wide * M * e
        h_g = p_g + wide * N * e
        h_a = p_a + wide * N * d if HAS_A else h_q
        h_b = p_b + wide * M * d if HAS_B else h_k
        h_c = p_c + wide * M * e if HAS_C else h_v
        _, _, b_w = derivatives_of(
            h_q, h_a, h_g, h_k, h_b, h_v, h_c, p_bias, p_t, p_softmax, p_D, p_r, p_w,
            head, o_i, o_j, N, M, d, e, scale, inner, count, HAS_BIAS, BY_ROW, BY_COLUMN,
            HAS_A, HAS_B, HAS_C, HAS_T, OPERAND, BLOCK, WIDTH_D, WIDTH_E, CHUNK_D, CHUNK_E,
        )  # fmt: skip
        b_gbias += b_w
    store_rows(p_gbias + shared.to(tl.int64) * N * M, b_gbias, o_i, o_j, N, M)


# --- launchers ----------------------------------------------------------------------------------------------------
#
# What x, y, found and args are: fastgan/ops/attention/layout.py.

BLOCK = 16
"""Queries and keys of a tile: what leaves a program's sums, and the four tiles of a step, in its registers."""


def grad2(x, y, found, args) -> None:
    """Fills the cotangents of g and of the inputs for those of the gradients."""
    constants = constants_of(x.q, args, BLOCK)
    D, rest = output_products(x, args, constants), sizes_and_bias(args)
    of_queries, of_keys = blocks_of(args, constants)
    given = {f"HAS_{name}": t is not None for name, t in zip("ABCT", y, strict=True)}
    constants |= flags_of(x, args) | given
    r, w = (allocation.empty((args.heads * args.N,), like=x.softmax) for _ in range(2))
    gg = allocation.empty_like(x.g) if found.g is None else found.g
    fixed = constants | {"STEPS": of_keys}
    launch(outputs_kernel, args.heads * of_queries, 4, x.q, (*x, *y, gg, r, w, *rest), fixed, 2)
    inputs = (*x[:5], x.softmax, *y, D, r, w)
    if found.q is not None:
        launch(queries_kernel, args.heads * of_queries, 4, x.q, (*inputs, found.q, *rest), fixed, 2)
    sums_bias = found.bias is not None and not args.by_row
    if found.k is not None or found.v is not None or sums_bias:
        gk, gv = (allocation.empty_like(t) if z is None else z for t, z in ((x.k, found.k), (x.v, found.v)))
        arguments = (*inputs, gk, gv, found.bias if sums_bias else None, *rest)
        fixed = constants | {"STEPS": of_queries, "SUMS_BIAS": sums_bias}
        launch(keys_kernel, args.heads * of_keys, 4, x.q, arguments, fixed, 2)
    if found.bias is not None and args.by_row:
        fixed = constants | {"STEPS": args.heads // args.bias_count}
        programs = args.bias_count * of_queries * of_keys
        launch(bias_kernel, programs, 4, x.q, (*inputs, found.bias, *rest), fixed, 2)
