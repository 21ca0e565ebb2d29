"""Demodulation: the factors that give the filters of a modulated convolution unit norm, within the range of float16."""

from contextlib import nullcontext

import torch
from torch import Tensor

from fastgan.ops._common.autocast import autocasts

EPS = 1e-8


def demodulation(weight: Tensor, styles: Tensor, eps: float | Tensor = EPS) -> Tensor:
    """What the filters' norms are divided out by: [O, I, kh, kw] and [B, I] -> [B, O].

    Not in half precision, where squares overflow, under torch.autocast neither. Differentiable to any order.
    """
    device = weight.device.type
    with torch.autocast(device, enabled=False) if autocasts(device) else nullcontext():
        squares = weight.square().sum((2, 3))  # [O, I]
        return (styles.square() @ squares.t() + eps).rsqrt()


def normalised(weight: Tensor, styles: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, float | Tensor]:
    """Weights and styles for a result that is the same after demodulation, small enough for float16 on the way.

    float16 ends at 65,504, which a sum of a thousand products with styles of 10 exceeds. Every filter is divided by its
    largest weight times the root of its fan-in, every sample's styles by the largest. eps is divided likewise, so that
    the result does not depend on these divisors: they are constants to the gradient, exactly.
    """
    if dtype != torch.float16:
        return weight, styles, EPS
    filters = weight.detach().abs().amax((1, 2, 3), keepdim=True) * weight[0].numel() ** 0.5  # [O, 1, 1, 1]
    samples = styles.detach().abs().amax(1, keepdim=True)  # [B, 1]
    filters, samples = (torch.where(t > 0, t, 1.0) for t in (filters, samples))
    return weight / filters, styles / samples, EPS / (samples * filters.view(1, -1)).square()
