"""conv3x3 in plain PyTorch."""

import torch.nn.functional as F
from torch import Tensor


def conv3x3_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 1, groups: int = 1
) -> Tensor:
    """`conv3x3` in plain PyTorch: the oracle, the fallback and what the benchmarks call eager."""
    return F.conv2d(x, weight, bias, padding=padding, groups=groups)
