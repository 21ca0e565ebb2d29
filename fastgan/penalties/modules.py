"""Finds the modules of a critic: a module itself, a function around one, or an object with `__call__`."""

import functools
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from fastgan._torch_private import is_fully_sharded

REPLACES = "_fastgan_replaces"
"""In a class that `fastgan.accelerate` gives a module: the class it stands for."""
AROUND = "_fastgan_around"
"""The same in one that changes what runs inside of its class, which may be such a replacement itself."""


def modules_of(critic: Callable[..., Any]) -> dict[nn.Module, str]:
    """Every module below a critic with its name, as far as it can be found without calling the critic.

    Those of a function are found in its closure, its defaults and the globals that it names, of a method in its object,
    of a partial in its arguments, of an object that is called in its attributes, of any other object in the attributes
    and methods that the function names.
    """
    if isinstance(critic, nn.Module):
        return {module: name or "the critic" for name, module in critic.named_modules()}
    found: dict[nn.Module, str] = {}
    for name, root in _roots(critic, set()):
        for below, module in root.named_modules():
            found.setdefault(module, f"{name}.{below}" if below else name)
    return found


def each_module_of(critic: Callable[..., Any]) -> Iterable[nn.Module]:
    """The same modules without their names, which take time to build."""
    return critic.modules() if isinstance(critic, nn.Module) else modules_of(critic)


def is_accelerated(module: nn.Module) -> bool:
    """Whether fastgan.accelerate has replaced it: where operations are watched, it computes as it was written."""
    return hasattr(type(module), REPLACES) or hasattr(type(module), AROUND)


def is_sharded(critic: Callable[..., Any]) -> bool:
    """Whether the weights of one of those modules are gathered for each of autograd's passes (`fully_shard`)."""
    return any(is_fully_sharded(module) for module in each_module_of(critic))


def buffers_of(critic: Callable[..., Any]) -> Iterator[Tensor]:
    """The buffers of all those modules."""
    for module in each_module_of(critic):
        for buffer in module._buffers.values():
            if buffer is not None and not nn.parameter.is_lazy(buffer):
                yield buffer


def anchor(critic: Callable[..., Any]) -> Any:
    """An object that lives as long as the critic: of a lambda, which is new at every step, its code or module."""
    if isinstance(critic, nn.Module):
        return critic
    for _, root in _roots(critic, set()):
        return root
    return code_of(critic) or critic


def code_of(critic: Callable[..., Any]) -> types.CodeType | None:
    """The code of a function, a method or a partial."""
    while isinstance(critic, functools.partial):
        critic = critic.func
    return getattr(critic, "__code__", None)


DEPTH = 3
"""Depth to which references are followed: a lambda around a method of an object that holds the critic."""


LONGEST = 256
"""Number of elements up to which a container is looked into."""


def _roots(
    thing: Any, seen: set[int], depth: int = DEPTH, names: frozenset[str] = frozenset()
) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a function refers to, by the names that it has for them; each thing is looked into once.

    `names` are those in the code of the function that the thing was found in.
    """
    if isinstance(thing, types.FunctionType):
        names = _names(thing.__code__)
    for name, value in _referred(thing, names):
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield name, value
        elif depth:
            yield from _roots(value, seen, depth - 1, names)


def _referred(thing: Any, names: frozenset[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, functools.partial):
        yield "func", thing.func
        yield from ((f"argument {i}", value) for i, value in enumerate(thing.args))
        yield from thing.keywords.items()
    elif isinstance(thing, types.MethodType):
        yield "self", thing.__self__
        if not isinstance(thing.__self__, (nn.Module, type)):
            yield from _attributes(thing.__self__)
        yield thing.__func__.__name__, thing.__func__
    elif isinstance(thing, types.FunctionType):
        yield from _of_function(thing)
    elif isinstance(thing, (list, tuple)):
        if len(thing) <= LONGEST:
            yield from ((f"{i}", value) for i, value in enumerate(thing))
    elif isinstance(thing, dict):
        if len(thing) <= LONGEST:
            yield from ((str(key), value) for key, value in thing.items())
    elif isinstance(thing, (type, types.ModuleType, Tensor, int, float, str, type(None))):
        return
    elif callable(thing):
        yield from _attributes(thing)
    else:  # an object with much else in it, such as a trainer
        yield from ((name, value) for name, value in _attributes(thing) if name in names)
        methods = ((name, getattr(type(thing), name, None)) for name in sorted(names))
        yield from ((name, method) for name, method in methods if isinstance(method, types.FunctionType))


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(thing, name):
                yield name, getattr(thing, name)


def _names(code: types.CodeType) -> frozenset[str]:
    """The names of attributes and globals in the code of a function, and of functions in it."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return frozenset(code.co_names).union(*inner)


def globals_named(function: types.FunctionType) -> Iterator[Any]:
    """The globals that a function's code names: data and the functions beside it, not those of libraries."""
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if getattr(value, "__globals__", function.__globals__) is function.__globals__:
            yield value


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in code.co_names:
        value = function.__globals__.get(name)
        own = getattr(value, "__globals__", None) is function.__globals__  # not the functions of a library
        if own or isinstance(value, nn.Module):
            yield name, value
    yield from ((f"default {i}", value) for i, value in enumerate(function.__defaults__ or ()))
    yield from (function.__kwdefaults__ or {}).items()
