"""Whether a tensor has been changed in place since it was read."""

from torch import Tensor


def version_of(tensor: Tensor) -> int:
    """How often a tensor has been changed in place; 0 for one of inference mode, where PyTorch does not count."""
    try:
        return tensor._version
    except RuntimeError:
        return 0
