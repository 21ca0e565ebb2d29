"""The version counter of a tensor, by which in-place changes are noticed."""

from torch import Tensor


def version_of(tensor: Tensor) -> int:
    """The number of in-place changes of a tensor; 0 in inference mode, where PyTorch does not count."""
    try:
        return tensor._version
    except RuntimeError:
        return 0
