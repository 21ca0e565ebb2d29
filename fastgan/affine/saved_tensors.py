"""What autograd saves while a network is recorded: what its weights are made of, and no activation."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.errors import NotAffineError
from fastgan.affine.versions import version_of


class _Dropped:
    """Stands for an activation that autograd wanted to keep: the tape has what the passes need."""


@contextmanager
def without_activations(is_activation: Callable[[Tensor], bool]) -> Iterator[None]:
    """Keeps autograd from saving activations; the rest is saved as ever, and checked for changes when it is used."""

    def pack(tensor: Tensor) -> Any:
        if is_activation(tensor) and not _by_checkpoint():
            return _Dropped
        return tensor, version_of(tensor)

    def unpack(packed: Any) -> Tensor:
        if packed is _Dropped:
            raise NotAffineError("the critic differentiates its own activations: use method='double_backward'")
        tensor, version = packed
        if version_of(tensor) != version:  # PyTorch checks nothing that a hook has saved
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: a "
                f"tensor of shape {list(tensor.shape)}, of which the critic has made a weight, is at version "
                f"{version_of(tensor)}, expected {version}; call backward before it is changed"
            )
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _by_checkpoint() -> bool:
    """Whether torch.utils.checkpoint is saving the arguments of a region, to compute the weights made there again."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") == "torch.autograd.function":
        frame = frame.f_back
    return frame.f_globals.get("__name__") == "torch.utils.checkpoint"
