"""Keeps autograd from saving activations while a network is recorded; what its weights depend on is saved."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from fastgan._torch_private import (
    StorageWeakRef,
    pop_saved_tensors_hooks,
    push_saved_tensors_hooks,
    top_saved_tensors_hooks,
    why_no_saved_tensors_hooks,
)
from fastgan.affine.errors import NotAffineError
from fastgan.affine.versions import version_of


def why_no_recording() -> str | None:
    """The reason why no network can be recorded here, where hooks on saved tensors are disabled; None elsewhere."""
    message = why_no_saved_tensors_hooks()
    return None if message is None else f"saved_tensors_hooks, which recording needs, are disabled ({message})"


class _Dropped:
    """Saved in the place of an activation: the tape has what the passes need."""


class _Storages:
    """A set of storages, which does not keep them alive."""

    def __init__(self) -> None:
        self._known: dict[int, StorageWeakRef] = {}

    def __contains__(self, tensor: Tensor) -> bool:
        known = self._known.get(tensor.untyped_storage()._cdata)
        return known is not None and not known.expired()

    def add(self, tensor: Tensor) -> None:
        storage = StorageWeakRef(tensor.untyped_storage())
        self._known[storage.cdata] = storage

    def discard(self, tensor: Tensor) -> None:
        self._known.pop(tensor.untyped_storage()._cdata, None)


class SavedTensors(torch.autograd.graph.saved_tensors_hooks):
    """Inside, autograd saves no activations; other tensors are saved and checked for in-place changes when used."""

    def __init__(self) -> None:
        activations = _Storages()

        def pack(tensor: Tensor) -> Any:
            return _Dropped if tensor in activations else (tensor, version_of(tensor))

        super().__init__(pack, _unpack)
        self._activations, self._constants = activations, _Storages()

    def drop(self, tensor: Tensor) -> None:
        """Marks the memory of a tensor as an activation's, which is not saved, unless a constant lies in it."""
        if tensor not in self._constants:
            self._activations.add(tensor)

    def keep(self, tensor: Tensor) -> None:
        """Marks the memory of a tensor as a constant's (it was detached): weights may be computed from it."""
        self._activations.discard(tensor)
        self._constants.add(tensor)

    def instead_of_checkpoint(self) -> None:
        """Replaces the hooks of torch.utils.checkpoint, if a checkpointed region has begun, by these.

        There are no activations to save memory on, and what the weights are made of need not be computed again.
        """
        top = top_saved_tensors_hooks(False)
        if top is not None and top[0] is not self.pack_hook and top[0].__qualname__.startswith("_checkpoint_hook"):
            pop_saved_tensors_hooks()
            push_saved_tensors_hooks(self.pack_hook, self.unpack_hook)


class KeptGraph(AbstractContextManager):
    """In the place of `SavedTensors` where autograd saves what it always does, to differentiate the output too."""

    def __exit__(self, *_: object) -> None:
        pass

    def drop(self, tensor: Tensor) -> None:
        """Nothing is dropped."""

    def keep(self, tensor: Tensor) -> None:
        """Everything is kept."""

    def instead_of_checkpoint(self) -> None:
        """Checkpoints compute their activations again, as ever."""


def _unpack(packed: Any) -> Tensor:
    if packed is _Dropped:
        raise NotAffineError("the critic differentiates its own activations: use method='double_backward'")
    tensor, version = packed
    if version_of(tensor) != version:  # PyTorch checks nothing that a hook has saved
        raise RuntimeError(
            "one of the variables needed for gradient computation has been modified by an inplace operation: a tensor "
            f"of shape {list(tensor.shape)}, of which the critic has made a weight, is at version "
            f"{version_of(tensor)}, expected {version}; call backward before it is changed"
        )
    return tensor
