"""Replaces a module in place: its class becomes a subclass of the class it had.

The object stays the same one, with its parameters, buffers, hooks and names, so that optimisers, state_dict,
isinstance, repr, deepcopy and pickle notice nothing. Nothing is kept in it: setting the class back undoes everything.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils import parametrize

from fastgan.penalties.modules import AROUND, REPLACES

_REBASED = "_fastgan_rebased"  # in the class of a parametrized module that was given another base: the one it had

C = TypeVar("C", bound=type)


def replaces(kind: type[nn.Module]) -> Callable[[C], C]:
    """Decorates a subclass of `kind` that computes the same.

    Its forward begins `if torch.jit.is_scripting(): return self.as_torch(...)`, the method of `kind`, and goes on in an
    `elif` or `else`: those branches TorchScript leaves alone.
    """

    def mark(replacement: C) -> C:
        setattr(replacement, REPLACES, kind)
        return replacement

    return mark


def as_torch(method: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a torch method named `as_torch`: TorchScript finds a method by its function's name."""
    assert isinstance(method, FunctionType)
    copy = FunctionType(method.__code__, method.__globals__, "as_torch", method.__defaults__, method.__closure__)
    copy.__annotations__ = method.__annotations__
    return copy


def is_replacement(kind: type) -> bool:
    return REPLACES in kind.__dict__


def replaced_by(kind: type) -> type:
    """The class that a replacement stands for; any other class is itself."""
    return kind.__dict__.get(REPLACES, kind)


def base_class(module: nn.Module) -> type:
    """The class of a module, without those which torch.nn.utils.parametrize and functional.py have put over it."""
    kind = _substituted(module)
    return replaced_by(kind) if AROUND in kind.__dict__ else kind


def is_around(module: nn.Module) -> bool:
    """Whether functional.py has put a class over the module's."""
    return AROUND in _substituted(module).__dict__


def _substituted(module: nn.Module) -> type:
    return type(module).__bases__[0] if parametrize.is_parametrized(module) else type(module)


def parametrizations_of(module: nn.Module) -> list[nn.Module]:
    """The modules of which the tensors of a parametrized module are made."""
    if not parametrize.is_parametrized(module):
        return []
    return list(module.parametrizations.modules())  # type: ignore[union-attr]


def torch_class(module: nn.Module) -> type:
    """The class the module had before it was parametrized or replaced, in either order."""
    return replaced_by(base_class(module))


def has_own_forward(module: nn.Module) -> bool:
    """Whether the instance was given a forward (or what it calls) that is not that of its class."""
    return any(name in module.__dict__ for name in ("forward", "_conv_forward", "_call_impl"))


def substitute(module: nn.Module, replacement: type) -> None:
    """Makes `replacement` the class of the module, below its parametrization if it has one."""
    if parametrize.is_parametrized(module):
        module.__class__ = _rebased(type(module), replacement)
    else:
        module.__class__ = replacement


def take_back(module: nn.Module) -> None:
    """Gives the module back the class it had before `substitute`, once or several times."""
    while is_replacement(_substituted(module)):
        _take_back_last(module)


def _take_back_last(module: nn.Module) -> None:
    kind = replaced_by(_substituted(module))
    if not parametrize.is_parametrized(module):
        module.__class__ = kind
        return
    now = type(module)
    before = now.__dict__.get(_REBASED)
    # The properties of a parametrized class are its parametrized tensors: there may be others by now.
    if before is not None and before.__bases__[0] is kind and _own(before).keys() == _own(now).keys():
        module.__class__ = before
    else:
        module.__class__ = _rebased(now, kind)
        delattr(type(module), _REBASED)


def _rebased(parametrized: type, base: type) -> type:
    """A class such as parametrize makes for a module, over another base: `remove_parametrizations` leaves that one."""
    copy = type(f"Parametrized{base.__name__}", (base,), _own(parametrized))
    setattr(copy, _REBASED, parametrized)
    return copy


def _own(kind: type) -> dict[str, Any]:
    return {name: value for name, value in kind.__dict__.items() if name not in ("__dict__", "__weakref__", _REBASED)}
