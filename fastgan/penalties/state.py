"""Snapshots of the state that running a critic changes, so that a trial run can be undone.

Running statistics, power iterations, counters, whatever else an operation overwrites, attributes that forward sets,
containers that it changes, and the state of the random numbers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fastgan._torch_private import TorchDispatchMode, is_functorch_wrapped, is_zero_tensor, tree_leaves, tree_map
from fastgan.affine.memory import block_of
from fastgan.affine.versions import version_of
from fastgan.penalties.contents import SMALL, RandomNumbers, content, set_content
from fastgan.penalties.modules import each_module_of
from fastgan.penalties.reachable import is_lazy, reachable

aten = torch.ops.aten

_UNDECLARED = {
    aten.native_batch_norm.default: (3, 4),
    aten.cudnn_batch_norm.default: (3, 4),
    aten.miopen_batch_norm.default: (3, 4),
}
"""The arguments (running statistics) that operations overwrite although their schemas do not say so."""


class Snapshot:
    """State that can be put back.

    Args:
        critic: whose state is kept: the attributes of its modules, and what else `reachable` finds.
        device: whose random numbers are kept, beside the CPU's and those of Python and NumPy.
    """

    def __init__(self, critic: Callable[..., Any], device: torch.device) -> None:
        self._blocks: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self._tensors: list[tuple[Tensor, int]] = []
        self._things: list[tuple[Any, Any]] = []
        self._lazy = [_Lazy(module) for module in each_module_of(critic) if is_lazy(module)]
        for thing in reachable(critic):
            if not isinstance(thing, Tensor):
                self._things.append((thing, content(thing)))
            elif not nn.parameter.is_lazy(thing):
                self._tensors.append((thing, version_of(thing)))
        self._random = RandomNumbers(device)

    def add(self, block: torch.UntypedStorage) -> None:
        """Keeps the memory of a tensor as well."""
        if block._cdata not in self._blocks:
            self._blocks[block._cdata] = block, block.clone()

    def add_small_tensors(self) -> None:
        """Keeps the memory of the critic's buffers and other tensors that are no parameters, unless they are large."""
        for tensor, _ in self._tensors:
            if type(tensor) is Tensor and has_memory(tensor) and tensor.untyped_storage().nbytes() <= SMALL:
                self.add(tensor.untyped_storage())

    def blocks(self) -> list[torch.UntypedStorage]:
        """The memory that is kept."""
        return [block for block, _ in self._blocks.values()]

    def overwritten(self) -> tuple[torch.UntypedStorage, ...]:
        """The memory that has been overwritten since it was added."""
        return tuple(block for block, copy in self._blocks.values() if _has_changed(block, copy))

    def lost(self) -> Tensor | None:
        """A tensor that has been overwritten and cannot be put back, since it was not added."""
        for tensor, version in self._tensors:
            if version_of(tensor) != version and not self._has(tensor):
                return tensor
        return None

    def _has(self, tensor: Tensor) -> bool:
        return has_memory(tensor) and block_of(tensor) in self._blocks

    def put_back(self, counted: bool = False) -> None:
        """Makes everything what it was; `counted`: autograd is to notice, as of any change in place."""
        changed = {key for key, (block, copy) in self._blocks.items() if _has_changed(block, copy)}
        for key in changed:
            block, copy = self._blocks[key]
            block.copy_(copy)
        if counted:
            torch.autograd.graph.increment_version(
                [t for t, _ in self._tensors if self._has(t) and block_of(t) in changed]
            )
        for lazy in self._lazy:
            lazy.put_back()
        for thing, before in self._things:
            set_content(thing, before)
        self._random.put_back()


class _Lazy:
    """A lazy module before its first run."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind = module, type(module)
        tensors = (*module._parameters.values(), *module._buffers.values())
        self.tensors = [(t, type(t)) for t in tensors if t is not None and nn.parameter.is_lazy(t)]

    def put_back(self) -> None:
        self.module.__class__ = self.kind
        for tensor, kind in self.tensors:
            if type(tensor) is not kind:
                tensor.data = tensor.data.new_empty(0)
                tensor.__class__ = kind


class Watch(TorchDispatchMode):
    """A dispatch mode that adds to a snapshot the memory that operations are about to overwrite."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot
        self._born: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        before = {block_of(t) for t in _tensors((args, kwargs))}
        for tensor in overwritten(func, args, kwargs):
            block = tensor.untyped_storage()
            if block._cdata not in self._born:
                self.snapshot.add(block)
        if any(is_zero_tensor(t) for t in _tensors((args, kwargs))):  # called from Python, mul.Scalar of one crashes
            args, kwargs = tree_map(_with_memory, (args, kwargs))
        result = func(*args, **kwargs)
        self._born.update({block_of(t) for t in _tensors(result)} - before)
        return result


def overwritten(func: Any, args: tuple, kwargs: dict) -> Iterator[Tensor]:
    """The tensors among the arguments of an operation that it writes to."""
    for i in _UNDECLARED.get(func, ()):
        yield from _tensors(args[i])
    if func._schema.is_mutable:
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                yield from _tensors(args[i] if i < len(args) else kwargs.get(argument.name))


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and has_memory(leaf))


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor lies in memory of its own that can be looked at."""
    return tensor.layout == torch.strided and not is_functorch_wrapped(tensor)


def _with_memory(argument: Any) -> Any:
    return torch.zeros_like(argument) if isinstance(argument, Tensor) and is_zero_tensor(argument) else argument


def _has_changed(block: torch.UntypedStorage, copy: torch.UntypedStorage) -> bool:
    """Whether memory has been overwritten; what has been freed since (gathered weights of `fully_shard`) has not."""
    if block.nbytes() != copy.nbytes():
        return False
    captured = block.device.type == "cuda" and torch.cuda.is_current_stream_capturing()  # nothing can be read then
    return captured or not torch.equal(_bytes(block), _bytes(copy))


def _bytes(block: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=block.device).set_(block)
