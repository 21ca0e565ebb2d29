"""Notices that a tensor was overwritten in place, as `nn.LeakyReLU(inplace=True)` does."""

import torch
from torch import Tensor


def counted(x: Tensor) -> bool:
    """Whether PyTorch counts the in-place changes of x: not in inference mode nor in a compiled graph."""
    return not torch.compiler.is_compiling() and not x.is_inference()


def changes(x: Tensor) -> int:
    """The number of in-place changes of x, also through views; 0 where PyTorch does not count them."""
    return x._version if counted(x) else 0
