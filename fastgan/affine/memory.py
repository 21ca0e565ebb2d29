"""Tracks the memory of the tensors of a pass, so that a node overwrites nothing that another still reads."""

import torch
from torch import Tensor

_dense = torch.ops.aten.is_non_overlapping_and_dense.default


class Memory:
    """Counts the tensors that a pass holds in each block of memory, and notes which blocks it has allocated.

    Views, slices and tensors that an operation hands on unchanged lie in the block of the tensor that they were made
    of: what counts is the block, never the tensor.
    """

    def __init__(self, in_place: bool, *given: Tensor) -> None:
        """`in_place`: whether anything may be overwritten; `given`: tensors of others, which never are."""
        self._in_place = in_place
        self._held: dict[int, int] = {}
        self._ours: set[int] = set()
        for tensor in given:
            self.hold(tensor)

    def hold(self, tensor: Tensor, new: bool = False) -> None:
        """Counts one more tensor; `new`: its maker has allocated the memory for this pass alone."""
        block = block_of(tensor)
        if new and self._in_place and block not in self._held:
            self._ours.add(block)
        self._held[block] = self._held.get(block, 0) + 1

    def release(self, tensor: Tensor) -> None:
        """Counts one tensor less."""
        block = block_of(tensor)
        self._held[block] -= 1
        if not self._held[block]:
            del self._held[block]
            self._ours.discard(block)

    def may_overwrite(self, tensor: Tensor) -> bool:
        """Whether this tensor, which is held, is the only one in its block, and writes no element twice."""
        block = block_of(tensor)
        return block in self._ours and self._held[block] == 1 and _dense(tensor)


def block_of(tensor: Tensor) -> int:
    """A key of the block of memory that a tensor lies in, for as long as somebody holds the block."""
    return tensor.untyped_storage()._cdata
