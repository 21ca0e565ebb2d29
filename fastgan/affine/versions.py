"""Whether a tensor has been changed in place since it was read."""

from torch import Tensor


def version_of(tensor: Tensor) -> int:
    """How often a tensor has been changed in place; 0 for one of inference mode, where PyTorch does not count."""
    return 0 if tensor.is_inference() else tensor._version
