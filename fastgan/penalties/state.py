"""Snapshots of the state that running a critic changes, so that a trial run can be undone.

Running statistics, power iterations, counters, whatever else an operation overwrites, attributes that forward sets, and
the state of the random numbers.
"""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastgan._torch_private import TorchDispatchMode, is_functorch_wrapped, tree_leaves

aten = torch.ops.aten

_UNDECLARED = {
    aten.native_batch_norm.default: (3, 4),
    aten.cudnn_batch_norm.default: (3, 4),
    aten.miopen_batch_norm.default: (3, 4),
}
"""The arguments (running statistics) that operations overwrite although their schemas do not say so."""


class Footprint(NamedTuple):
    """The state that one run of a critic changes.

    Attributes:
        blocks: the memory of tensors that are overwritten.
        modules: those whose attributes are set, weakly.
    """

    blocks: tuple[torch.UntypedStorage, ...] = ()
    modules: tuple["weakref.ref[nn.Module]", ...] = ()

    def snapshot(self, device: torch.device) -> "Snapshot":
        """A copy of that state, and of the random number generators', as they are now."""
        modules = [module for module in (reference() for reference in self.modules) if module is not None]
        snapshot = Snapshot(modules, device)
        for block in self.blocks:
            snapshot.add(block)
        return snapshot


NOTHING = Footprint()


class Snapshot:
    """State that can be put back.

    Args:
        modules: whose attributes and buffers are kept; those of a lazy module, which its first run makes, are not.
        device: whose random numbers are kept, beside the CPU's.
    """

    def __init__(self, modules: Iterable[nn.Module], device: torch.device) -> None:
        self._blocks: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self._attributes = [
            (module, dict(vars(module)), dict(module._buffers)) for module in modules if not _is_special(module)
        ]
        self._random = torch.get_rng_state()
        self._random_cuda = None
        if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():  # a captured step has been tried
            self._random_cuda = device, torch.cuda.get_rng_state(device)

    def add(self, block: torch.UntypedStorage) -> None:
        """Keeps the memory of a tensor as well."""
        if block._cdata not in self._blocks:
            self._blocks[block._cdata] = block, block.clone()

    def footprint(self) -> Footprint:
        """The state that has changed since the snapshot."""
        blocks = tuple(block for block, copy in self._blocks.values() if not torch.equal(_bytes(block), _bytes(copy)))
        modules = tuple(
            weakref.ref(module)
            for module, attributes, buffers in self._attributes
            if _differ(vars(module), attributes) or _differ(module._buffers, buffers)
        )
        return Footprint(blocks, modules)

    def put_back(self) -> None:
        for block, copy in self._blocks.values():
            if not torch.equal(_bytes(block), _bytes(copy)):
                block.copy_(copy)
        for module, attributes, buffers in self._attributes:
            _restore(vars(module), attributes)
            _restore(module._buffers, buffers)
        torch.set_rng_state(self._random)
        if self._random_cuda is not None:
            device, state = self._random_cuda
            torch.cuda.set_rng_state(state, device)


class Watch(TorchDispatchMode):
    """A dispatch mode that adds to a snapshot the memory that operations are about to overwrite."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot
        self._born: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        before = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        for tensor in _overwritten(func, args, kwargs):
            block = tensor.untyped_storage()
            if block._cdata not in self._born:
                self.snapshot.add(block)
        result = func(*args, **kwargs)
        self._born.update({t.untyped_storage()._cdata for t in _tensors(result)} - before)
        return result


def _overwritten(func: Any, args: tuple, kwargs: dict) -> Iterator[Tensor]:
    for i in _UNDECLARED.get(func, ()):
        yield from _tensors(args[i])
    if func._schema.is_mutable:
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                yield from _tensors(args[i] if i < len(args) else kwargs.get(argument.name))


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and _has_memory(leaf))


def _has_memory(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not is_functorch_wrapped(tensor)


def _is_special(module: nn.Module) -> bool:
    """Whether it is a lazy module (its first run makes its attributes) or TorchScript (they are not Python's)."""
    tensors = (*module._parameters.values(), *module._buffers.values())
    return isinstance(module, torch.jit.ScriptModule) or any(t is not None and nn.parameter.is_lazy(t) for t in tensors)


def _differ(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return now.keys() != before.keys() or any(now[name] is not value for name, value in before.items())


def _restore(now: dict[str, Any], before: dict[str, Any]) -> None:
    for name in now.keys() - before.keys():
        del now[name]
    now.update(before)


def _bytes(block: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=block.device).set_(block)
