"""Whether a tensor that is still needed has been overwritten meanwhile, as `nn.LeakyReLU(inplace=True)` does."""

import torch
from torch import Tensor


def counted(x: Tensor) -> bool:
    """Whether PyTorch counts how often x is changed in place: not in inference mode nor in a compiled graph."""
    return not torch.compiler.is_compiling() and not x.is_inference()


def changes(x: Tensor) -> int:
    """How often x has been changed in place, itself or through a view; 0 where nobody counts. Asking costs nothing."""
    return x._version if counted(x) else 0
