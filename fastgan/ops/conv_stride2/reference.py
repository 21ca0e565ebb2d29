"""conv_stride2 in plain PyTorch."""

import torch.nn.functional as F
from torch import Tensor


def conv_stride2_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 1) -> Tensor:
    """`conv_stride2` in plain PyTorch: the oracle, the fallback and what the benchmarks call eager."""
    return F.conv2d(x, weight, bias, stride=2, padding=padding)
