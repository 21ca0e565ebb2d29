"""Finds the Python objects that running a critic may change: attributes, containers, generators of random numbers.

They are found from the critic's modules, their hooks, and the closures of functions; in an object that is no module as
far as its attributes and the containers in them. Nothing is called, and nothing large is looked into.
"""

import functools
import random
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from types import CellType
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.penalties.modules import each_module_of, globals_named, is_sharded

CONTAINERS = frozenset((dict, OrderedDict, defaultdict, Counter, list, set, deque, bytearray))
"""The classes of containers that are looked into; not their subclasses, which may do anything when they are changed."""

LONGEST = 64
"""Number of elements up to which a container's elements are looked into."""

DEPTH = 3
"""Depth to which references are followed: a hook of a module, the object that it belongs to, a list in its dict."""

_LEAVES = frozenset((int, float, str, bool, bytes, type(None), type, types.ModuleType, torch.dtype, torch.device))
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def reachable(critic: Callable[..., Any]) -> list[Any]:
    """Each thing that may be changed, once: namespaces and containers, cells of closures, generators, tensors.

    A module or an object is represented by its `__dict__`.
    """
    found: list[Any] = []
    seen: set[int] = set()
    for module in each_module_of(critic):
        _add_module(module, found, seen)
    if is_sharded(critic):  # which exchanges parameters on its own
        owned = {id(thing) for module in each_module_of(critic) for thing in _parameters_of(module)}
        found = [thing for thing in found if id(thing) not in owned]
    if not isinstance(critic, nn.Module):
        _add(critic, found, seen, DEPTH)
    return found


def _parameters_of(module: nn.Module) -> list[Any]:
    """A module's parameters and the dict that holds them."""
    return [module._parameters, *module._parameters.values()]


def is_lazy(module: nn.Module) -> bool:
    """Whether a module's first run will make its parameters."""
    tensors = (*module._parameters.values(), *module._buffers.values())
    return any(t is not None and nn.parameter.is_lazy(t) for t in tensors)


def _add_module(module: nn.Module, found: list[Any], seen: set[int]) -> None:
    if id(module) in seen or isinstance(module, torch.jit.ScriptModule):  # whose attributes are not Python's
        return
    seen.add(id(module))
    attributes = vars(module)
    found.append(attributes)
    for tensors in (module._parameters, module._buffers):
        found.append(tensors)
        found.extend(t for t in tensors.values() if t is not None)
    if is_lazy(module):  # its first run removes hooks
        found.extend(value for value in attributes.values() if type(value) in CONTAINERS)
    for name in attributes.keys() - _OF_EVERY_MODULE:
        _add(attributes[name], found, seen, DEPTH - 1)
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for hook in hooks.values():
            _add(hook, found, seen, DEPTH)


def _add(thing: Any, found: list[Any], seen: set[int], depth: int) -> None:
    """Adds the thing, if it can be changed, and what it refers to."""
    kind = type(thing)
    if kind in _LEAVES or id(thing) in seen:
        return
    if kind is tuple:  # of numbers, most often
        for value in thing if depth and len(thing) <= LONGEST else ():
            _add(value, found, seen, depth - 1)
        return
    if isinstance(thing, nn.Module):
        _add_module(thing, found, seen)
        return
    seen.add(id(thing))
    if kind in CONTAINERS or isinstance(thing, (Tensor, CellType, *_known())):
        found.append(thing)
    elif _is_plain(thing):
        found.append(vars(thing))
    if depth:
        for value in _referred(thing):
            _add(value, found, seen, depth - 1)


def _referred(thing: Any) -> Iterable[Any]:
    kind = type(thing)
    if kind in CONTAINERS:
        if len(thing) > LONGEST:
            return ()
        return list(thing.values()) if isinstance(thing, dict) else list(thing)
    if isinstance(thing, functools.partial):
        return thing.func, *thing.args, *thing.keywords.values()
    if isinstance(thing, types.MethodType):
        return thing.__self__, thing.__func__
    if isinstance(thing, types.FunctionType):
        cells, defaults = thing.__closure__ or (), thing.__defaults__ or ()
        return *cells, *defaults, *(thing.__kwdefaults__ or {}).values(), *globals_named(thing)
    if isinstance(thing, CellType):
        return _contents(thing)
    return list(vars(thing).values()) if _is_plain(thing) else ()


def _contents(cell: CellType) -> tuple:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not assigned yet
        return ()


def _is_plain(thing: Any) -> bool:
    """Whether it is an object of a class of the user's, with attributes."""
    kind = type(thing)
    if kind is types.SimpleNamespace:
        return True
    return type(getattr(thing, "__dict__", None)) is dict and kind.__module__.partition(".")[0] not in _LIBRARIES


_LIBRARIES = frozenset(sys.stdlib_module_names - {"__main__"} | {"torch", "numpy", "fastgan"})


def _known() -> tuple[type, ...]:
    """The classes of other things whose content can be put back: generators of random numbers, NumPy's arrays."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return random.Random, torch.Generator
    return random.Random, torch.Generator, numpy.random.Generator, numpy.random.RandomState, numpy.ndarray
