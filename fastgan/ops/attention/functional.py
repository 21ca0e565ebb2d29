"""PyTorch's attention functions over `attention`: where they are differentiated, and their arguments allow it.

PyTorch's fused attention has no second derivative, and where it falls back on composed operations these hold the N x M
matrix many times over.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.backends import select, wanted
from fastgan.ops._common.autocast import autocasts
from fastgan.ops._common.wanted import differentiated
from fastgan.ops.attention import attention


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`; a causal one takes one N x M mask for all heads."""
    if dropout_p or enable_gqa or (is_causal and attn_mask is not None) or not _takes(query, key, value, attn_mask):
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    bias = _causal(query, key) if is_causal else _as_bias(attn_mask, query)
    query, key, value = _autocast(query), _autocast(key), _autocast(value)
    return attention(query, key, value, scale=scale, bias=bias)


def multi_head_attention_forward(
    query: Tensor,  # [N, B, features] or [N, features]
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """`torch.nn.functional.multi_head_attention_forward`, what nn.MultiheadAttention calls.

    With `need_weights`, its default, the N x M matrix is part of the result: that is PyTorch's own, as are dropout,
    projections of different sizes and the arguments that add keys. Where `is_causal` says that the mask is causal,
    PyTorch does not look at the mask, unless keys are padded.
    """
    extras = (bias_k, bias_v, static_k, static_v)
    plain = not (need_weights or add_zero_attn or use_separate_proj_weight or (training and dropout_p))
    whole = embed_dim_to_check == query.shape[-1] and embed_dim_to_check % num_heads == 0
    batched = query.ndim == key.ndim == value.ndim == 3
    if (
        not (plain and whole and batched) or in_proj_weight is None
        or not _are_masks(attn_mask, key_padding_mask, (query, key), num_heads) or (is_causal and attn_mask is None)
        or any(x is not None for x in extras) or not _takes(query, key, value, attn_mask, in_proj_weight)
        or not _takes(query, key, value, key_padding_mask, in_proj_weight)
    ):  # fmt: skip
        return F.multi_head_attention_forward(
            query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v,
            add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training, key_padding_mask, need_weights,
            attn_mask, use_separate_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, static_k, static_v,
            average_attn_weights, is_causal,
        )  # fmt: skip
    N, B, E = query.shape
    q, k, v = (
        x.reshape(x.shape[0], B, num_heads, E // num_heads).permute(1, 2, 0, 3)
        for x in _projected(query, key, value, in_proj_weight, in_proj_bias)
    )
    causal = is_causal and key_padding_mask is None
    mask = None if causal else _merged(attn_mask, key_padding_mask, B, q)
    o = scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
    return F.linear(o.permute(2, 0, 1, 3).reshape(N, B, E), out_proj_weight, out_proj_bias), None


def _are_masks(pairs: Any, keys: Any, tokens: tuple[Tensor, Tensor], heads: int) -> bool:
    """Whether masks have the shapes that PyTorch wants: [N, M] or [B * heads, N, M], and [B, M]."""
    (N, B), M = tokens[0].shape[:2], tokens[1].shape[0]
    return (pairs is None or pairs.shape in ((N, M), (B * heads, N, M))) and (keys is None or keys.shape == (B, M))


def _merged(of_pairs: Tensor | None, of_keys: Tensor | None, batch: int, q: Tensor) -> Tensor | None:
    """One mask to add, of those of nn.MultiheadAttention, whose True is masked: [N, M] or [batch * heads, N, M], and
    [batch, M]."""
    pairs, keys = _added(of_pairs, q), _added(of_keys, q)
    if pairs is not None and pairs.ndim == 3:
        pairs = pairs.view(batch, -1, *pairs.shape[1:])
    if keys is None:
        return pairs
    keys = keys[:, None, None]
    return keys if pairs is None else pairs + keys


def _added(mask: Tensor | None, q: Tensor) -> Tensor | None:
    return _as_bias(~mask, q) if mask is not None and mask.dtype == torch.bool else mask


def _projected(query: Tensor, key: Tensor, value: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    if query is key is value:
        return F.linear(query, weight, bias).chunk(3, -1)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    return tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weight.chunk(3), biases, strict=True))


def _takes(q: Any, k: Any, v: Any, mask: Any, weight: Any = None) -> bool:
    """Whether `attention` is for this call; PyTorch's own does (or refuses, with its own words) any other."""
    tensors = [x for x in (q, k, v, mask) if x is not None]
    if not all(isinstance(x, Tensor) and x.layout == torch.strided and x.device == q.device for x in tensors):
        return False
    if any(x.ndim < 2 or not x.is_floating_point() or x.dtype != q.dtype or not x.numel() for x in (q, k, v)):
        return False
    if mask is not None and (mask.dtype not in (torch.bool, q.dtype) or mask.ndim < 2):
        return False
    if not (torch.backends.cuda.flash_sdp_enabled() or torch.backends.cuda.mem_efficient_sdp_enabled()):
        return False  # the user chose the composed form, which has derivatives of any order (on the CPU, too)
    return differentiated(q, k, v, mask, weight) and kernels_are_for(q)


def kernels_are_for(x: Tensor) -> bool:
    """Whether attention's kernels are to stand in for PyTorch's operations on tensors of this device and dtype."""
    # The GPU's kernels have not been measured (docs/gpu-todo.md): until then they run where they are asked for.
    chosen = x.device.type == "cpu" or wanted() == "triton"
    return chosen and select("attention", x) != "reference"


def _causal(query: Tensor, key: Tensor) -> Tensor:
    mask = query.new_full((query.shape[-2], key.shape[-2]), -math.inf)
    return mask.triu(1)


def _as_bias(mask: Tensor | None, query: Tensor) -> Tensor | None:
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -math.inf)


def _autocast(x: Tensor) -> Tensor:
    """As autocast casts for PyTorch's: float64 stays what it is."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if autocasts(device) and x.dtype != torch.float64 else x


BY_TORCH_FUNCTION: dict[Callable[..., Any], Callable[..., Any]] = {
    F.scaled_dot_product_attention: scaled_dot_product_attention,
    F.multi_head_attention_forward: multi_head_attention_forward,
}
"""PyTorch's function -> ours."""
