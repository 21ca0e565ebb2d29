"""The type of the arithmetic."""

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which the kernels calculate with x: float32 for everything but float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
