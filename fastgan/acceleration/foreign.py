"""Replaces layers of other code bases, after a copy has shown that the replacement computes the same.

Their attributes suggest what they compute. That they do is verified on a copy, in float64, before anything is replaced.
It is so for these attributes: a layer that has others by the time it is called runs as it did.
"""

import copy
from abc import ABCMeta
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.acceleration.substitute import base_class, has_own_forward, is_replacement, replaced_by, replaces

TOLERANCE = 1e-9
REBUILT_BY = "_fastgan_rebuilt_by"  # in a class made here: the function that makes an empty object, and its arguments


Settings = tuple[tuple[str, Any], ...]
"""The names and values of a layer's attributes."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_OF_EVERY_MODULE = frozenset((*vars(nn.Module()), "_is_torch_compile"))  # torch.compile(module) sets that one
_MISSING = object()
_ANY = None
"""The value of an attribute in `Settings` that may be any."""


def settings_of(module: nn.Module, apart: Collection[str] = ()) -> tuple[Settings, str]:
    """The layer's attributes, its own and those of its class, at which it is verified; `apart` from some.

    Returns:
        (the attributes, the reason why the layer is left): one that is no plain data may change inside.
    """
    kept = attributes_of(module)
    unknown = next((name for name, value in kept.items() if name not in apart and not is_plain(value)), None)
    if unknown is not None:
        return (), f"has an attribute {unknown} that may change, a {type(kept[unknown]).__name__}"
    return tuple((name, _ANY if name in apart else _frozen(value)) for name, value in kept.items()), ""


def attributes_of(module: nn.Module) -> dict[str, Any]:
    """The attributes that a layer itself has, of any kind, after the plain data that its classes have."""
    found: dict[str, Any] = {}
    for kind in reversed(base_class(module).__mro__):
        if not (kind.__module__.startswith("torch.") or kind is object or is_replacement(kind)):
            found.update((name, value) for name, value in vars(kind).items() if is_plain(value))
    found.update((name, value) for name, value in vars(module).items() if name not in _OF_EVERY_MODULE)
    return {name: value for name, value in found.items() if not name.startswith("__")}


def has_settings(module: nn.Module, settings: Settings) -> bool:
    """Whether a layer's attributes are still those at which it was verified, and there are no others."""
    if any(value is not _ANY and _frozen(getattr(module, name, _MISSING)) != value for name, value in settings):
        return False
    if torch.compiler.is_compiling():  # which reads no __dict__
        return True
    return vars(module).keys() - _OF_EVERY_MODULE <= {name for name, _ in settings}


def is_plain(value: Any) -> bool:
    """Whether a value is data that is compared by what it says, and that nothing else changes."""
    if isinstance(value, (tuple, list)):
        return all(is_plain(element) for element in value)
    return isinstance(value, _PLAIN)


def _frozen(value: Any) -> Any:
    """A value that can be hashed, and that is not equal to one of another type."""
    if isinstance(value, (tuple, list)):
        return tuple(_frozen(element) for element in value)
    return type(value), value


def why_no_subclass(module: nn.Module) -> str:
    """The reason why a module cannot get a subclass of its class with another call; an empty text if it can."""
    kind = base_class(module)
    if has_own_forward(module):
        return "its instance has a forward of its own"
    if type(kind) not in (type, ABCMeta) or any("__init_subclass__" in vars(each) for each in kind.__mro__[:-1]):
        return "its class runs code of its own where a subclass is made"
    return ""


def subclass(
    kind: type[nn.Module], mark: str, methods: dict[str, Any], rebuild: Callable[..., nn.Module],
    arguments: tuple,
) -> type[nn.Module]:  # fmt: skip
    """A subclass of a foreign layer, replaced or not, with other methods, which has `mark` as an attribute.

    A class made here has no name by which pickle would find it: `rebuild(*arguments)` makes an empty object of it. A
    layer that pickles itself in a way of its own goes on doing so, as what it was.
    """
    body: dict[str, Any] = {**methods, "__module__": kind.__module__, mark: True, REBUILT_BY: (rebuild, arguments)}
    original: Any = replaced_by(kind)
    if original.__reduce_ex__ is object.__reduce_ex__ and original.__reduce__ is object.__reduce__:
        body["__reduce_ex__"] = lambda self, protocol: (rebuild, arguments, _state(self))
    return replaces(kind)(type(kind.__name__, (kind,), body))


def _state(module: nn.Module) -> Any:
    return module.__getstate__() if hasattr(module, "__getstate__") else module.__dict__  # object has it from 3.11 on


@contextmanager
def verifying() -> Iterator[None]:
    """A context that protects the global random state from a layer, and the layer from autocast and no_grad."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        yield


def copy_of(module: nn.Module, training: bool) -> Any:
    return copy.deepcopy(module).to("cpu", torch.float64).train(training)


def largest_difference(theirs: nn.Module, replacement: type[nn.Module], x: Tensor, generator: torch.Generator) -> float:
    """The largest difference of the outputs and of the gradients, to x and the parameters, if a copy is replaced."""
    ours = copy.deepcopy(theirs)
    ours.__class__ = replacement
    results: list[list[Tensor]] = []
    dy: Tensor | None = None
    for module in (theirs, ours):
        point = x.clone().requires_grad_()
        y = module(point)
        if results and y.shape != results[0][0].shape:
            return float("inf")
        if dy is None:
            dy = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        results.append([y.detach(), *torch.autograd.grad(y, [point, *module.parameters()], dy)])
    worst = max(float((a - b).abs().max()) for a, b in zip(*results, strict=True))
    return worst if worst == worst else float("inf")
