"""A critic's outputs as vectors, and in full precision.

Every objective is computed in float32: sixteen bits lose the distances of near points and the differences of large
means, and float16 ends at 65504, below exp(12) and the square of 256.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from fastgan.ops._common.autocast import autocasts
from fastgan.ops._common.precision import compute_dtype


def vectors(outputs: Tensor) -> Tensor:
    """[B, ...] as [B, F]: a critic that ends in a convolution gives a map of features."""
    return outputs.flatten(1) if outputs.ndim > 2 else outputs


def leading_logit(outputs: Tensor, real_outputs: Tensor, fake_outputs: Tensor) -> Tensor:
    """The witness (`Loss.witness`) of outputs that begin with a logit: that logit, [P, 1 + F] -> [P]."""
    return vectors(outputs)[:, 0]


def wide(x: Tensor) -> Tensor:
    """x in float32; float64 stays."""
    return x.to(compute_dtype(x))


def without_autocast(x: Tensor) -> AbstractContextManager:
    """A context without autocast on x's device, which would multiply matrices in half precision."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if autocasts(device) else nullcontext()
