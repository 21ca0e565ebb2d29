"""attention in plain PyTorch."""

import math

from torch import Tensor


def attention_reference(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, kind: str = "dot", scale: float | None = None
) -> Tensor:
    """The same in plain PyTorch, as it is usually written; O(N M) memory."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if kind == "l2":
        centre = k.detach().mean(-2, keepdim=True)  # distances do not depend on it, but their rounding does
        q, k = q - centre, k - centre
    products = q @ k.transpose(-2, -1)
    if kind == "l2":
        distances = q.square().sum(-1, keepdim=True) + k.square().sum(-1).unsqueeze(-2) - 2 * products
        scores = -scale * distances
    else:
        scores = scale * products
    if bias is None:
        return scores.softmax(-1) @ v
    scores = scores + bias
    masked = (scores == -math.inf).all(-1, keepdim=True)
    return scores.masked_fill(masked, 0).softmax(-1).masked_fill(masked, 0).to(v.dtype) @ v
