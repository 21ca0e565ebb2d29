"""A critic's outputs as vectors of features, in full precision: sixteen bits lose the distances of near points."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from fastgan.ops.convolution_passes import autocasts
from fastgan.ops.precision import compute_dtype


def vectors(outputs: Tensor) -> Tensor:
    """[B, ...] as [B, F]: a critic that ends in a convolution gives a map of features."""
    return outputs.flatten(1) if outputs.ndim > 2 else outputs


def wide(x: Tensor) -> Tensor:
    """x as float32, or as it is in float64."""
    return x.to(compute_dtype(x))


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Where torch.autocast would multiply matrices of half precision, it does not."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if autocasts(device) else nullcontext()
