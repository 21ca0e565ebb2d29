"""attention: softmax attention that is exact to the second derivative in linear memory.

Composed of PyTorch's operations, attention and its derivatives write the N x M matrix many times over; PyTorch's fused
attention does not, but cannot be differentiated twice. Here forward, backward and the backward of that keep it in
tiles (csrc/attention.h has the formulas).
"""

import math
from typing import Any

import torch
from torch import Tensor

from fastgan.backends import BackendError, select, wanted
from fastgan.ops._common.checks import check_floating
from fastgan.ops._common.precision import compute_dtype
from fastgan.ops.attention.autograd import Attention, Centred
from fastgan.ops.attention.layout import without_repeats
from fastgan.ops.attention.reference import attention_reference

KINDS = ("dot", "l2")
TRITON_FEATURES = 256
"""The widest heads whose blocks fit a program's registers."""


def attention(
    q: Tensor,  # [..., N, d]
    k: Tensor,  # [..., M, d]
    v: Tensor,  # [..., M, e]
    *,
    kind: str = "dot",
    scale: float | None = None,
    bias: Tensor | None = None,  # broadcastable to [..., N, M]
) -> Tensor:  # [..., N, e]
    """Means of v, weighted by the softmax of each query's scores.

        o_i = sum_j P_ij v_j,   P_i = softmax over j of S_ij
        dot    S_ij = scale <q_i, k_j> + bias_ij
        l2     S_ij = -scale ||q_i - k_j||^2 + bias_ij

    In this order: Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, equation 1. Kim et al. 2021, The
    Lipschitz Constant of Self-Attention, arXiv:2006.04710, section 3.2 (Lipschitz where queries and keys share their
    weights and v is made of them too, which is for the caller to see to).

    First and second derivatives are kernels that never hold the N x M matrix; a third raises (`with
    fastgan.backend("reference")` has any order). l2 is dot with the scale doubled and a bias -scale ||k_j||^2 for each
    key, after the mean key has been subtracted from keys and queries, so that a large common part costs no digits.

    Left to PyTorch: dropout, grouped heads (repeat the keys' heads: `k.repeat_interleave(groups, dim=-3)`). A causal or
    a boolean mask is a bias of 0 and -inf, `torch.zeros(N, M).masked_fill(~mask, -math.inf)`.

    Args:
        q, k, v: float32, float64, float16 or bfloat16, of one dtype; leading dimensions (batch, heads) equal or
            broadcast. Sums are float32 (float64 for float64), also under torch.autocast, which changes no dtype here.
            d of at least 1, any e; above 256 of either, PyTorch's operations on a GPU.
        kind: "dot" or "l2".
        scale: None for 1/sqrt(d), for both kinds.
        bias: of any floating dtype; -inf masks. A query all of whose keys are masked by it gets 0 and no gradient, as
            in PyTorch. Its gradient, if it requires one, has its shape: sums over whatever was broadcast. With "l2"
            a bias that differs between queries is added to that of the keys in full, [..., N, M].

    Returns:
        [..., N, e] in the dtype of q, contiguous. Its derivatives read it again, as those of PyTorch's fused attention
        do: changed in place before, the backward pass raises.

    Raises:
        TypeError: a tensor is not floating, or the dtypes of q, k and v differ.
        ValueError: shapes, devices, kind or scale do not fit.
        RuntimeError: a third derivative is taken.
        fastgan.BackendError: a backend was forced that cannot take these arguments.
    """
    _check(q, k, v, kind, scale, bias)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    batch = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    backend = _backend_for(q, v)
    if backend == "reference":
        return attention_reference(q, k, v, bias, kind=kind, scale=scale)
    q, k, v = (x if x.shape[:-2] == batch else x.expand(*batch, *x.shape[-2:]) for x in (q, k, v))
    dtype, wide = v.dtype, compute_dtype(v)
    if bias is not None:
        bias = without_repeats(bias).to(wide)
        bias = bias.reshape((1,) * (q.ndim - bias.ndim) + bias.shape)
    if kind == "l2":
        q, k, v = q.to(wide), k.to(wide), v.to(wide)
        q, k, per_key = _as_dot(q, k, scale)
        scale, bias = 2 * scale, per_key if bias is None else per_key + bias
    return Attention.apply(q, k, v, bias, scale, backend).to(dtype)


def _backend_for(q: Tensor, v: Tensor) -> str:
    backend, widest = select("attention", q), max(q.shape[-1], v.shape[-1])
    if backend != "triton" or widest <= TRITON_FEATURES:
        return backend
    if wanted() == "triton":
        reason = f"it takes heads of at most {TRITON_FEATURES} features, not {widest}"
        raise BackendError(f"fastgan.ops.attention cannot run on backend 'triton': {reason}")
    return "reference"


def _as_dot(q: Tensor, k: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and the keys' bias whose scores at twice the scale are those of "l2", but for a constant of each
    query."""
    q, k = Centred.apply(q, k)
    return q, k, -scale * k.square().sum(-1).unsqueeze(-2)


def _check(q: Any, k: Any, v: Any, kind: str, scale: float | None, bias: Any) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_floating("attention", name, x)
        if x.dtype != q.dtype:
            raise TypeError(f"attention: {name} is {x.dtype}, expected {q.dtype} like q")
        if x.device != q.device:
            raise ValueError(f"attention: {name} is on {x.device}, expected {q.device} like q")
        if x.ndim < 2:
            raise ValueError(f"attention: {name} has shape {list(x.shape)}, expected [..., length, features]")
    (N, d), (M, _) = q.shape[-2:], k.shape[-2:]
    if d == 0:
        raise ValueError(f"attention: q has shape {list(q.shape)}, expected at least one feature")
    if k.shape[-1] != d:
        raise ValueError(f"attention: k has shape {list(k.shape)}, expected [..., {d}] like q")
    if v.shape[-2] != M:
        raise ValueError(f"attention: v has shape {list(v.shape)}, expected [..., {M}, features], as many as keys")
    if kind not in KINDS:
        raise ValueError(f"attention: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if scale is not None and not (isinstance(scale, (int, float)) and math.isfinite(scale)):
        raise ValueError(f"attention: scale is {scale!r}, expected a finite number or None")
    try:
        batch = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except RuntimeError:
        shapes = ", ".join(str(list(x.shape)) for x in (q, k, v))
        raise ValueError(
            f"attention: q, k, v have shapes {shapes}, whose leading dimensions do not broadcast"
        ) from None
    if bias is not None:
        check_floating("attention", "bias", bias, "a floating-point tensor, -inf where a mask is False")
        if bias.device != q.device:
            raise ValueError(f"attention: bias is on {bias.device}, expected {q.device} like q")
        full = (*batch, N, M)
        sizes = zip(reversed(bias.shape), reversed(full), strict=False)
        if bias.ndim > len(full) or any(size not in (1, whole) for size, whole in sizes):
            raise ValueError(
                f"attention: bias has shape {list(bias.shape)}, expected one that broadcasts to {list(full)}"
            )
