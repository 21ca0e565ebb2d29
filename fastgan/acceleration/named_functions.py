"""Finds out which functions of torch, of those that fastgan has too, the code of a module names.

The code is read, not run: that of its forward, of the methods that it names, and of the functions that it names in the
modules of Python that it imports. What is reached in another way (a dictionary of functions, `getattr`) is not seen.
"""

import functools
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn

from fastgan.acceleration.substitute import base_class
from fastgan.penalties.lean import replaceable

_MOST = 1000  # functions that are read: those of a library that a forward calls might go on for long


def named_functions(module: nn.Module) -> list[str]:
    """The names of torch's functions that a call of the module may reach and fastgan replaces, sorted.

    Without those in the code of its submodules, which are modules of their own.
    """
    kind = base_class(module)
    found: set[str] = set()
    seen: set[FunctionType] = set()
    waiting = list(_methods(kind, "forward"))[:1]
    while waiting and len(seen) < _MOST:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        names = set(_names(function.__code__))
        for name in names:
            methods = list(_methods(kind, name))
            waiting += methods if "super" in names else methods[:1]
            # `x.relu()` and `self.relu(x)` look the same but for what the module has.
            if not methods and not _has(module, name) and replaceable(getattr(Tensor, name, None)):
                found.add(name)
        for value in _reached(module, function, names):
            if replaceable(value):
                found.add(value.__name__)
            elif isinstance(value, type) and issubclass(kind, value):  # Base.forward(self, x)
                waiting += [method for name in names for method in list(_methods(value, name))[:1]]
            elif isinstance(value, FunctionType) and not value.__module__.startswith(("torch.", "fastgan.")):
                waiting.append(value)
    return sorted(found)


def _methods(kind: type, name: str) -> Iterator[FunctionType]:
    """The functions of this name in a class and its bases, the nearest first; of properties too."""
    for each in kind.__mro__:
        value = vars(each).get(name) if each is not nn.Module else None
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(value, FunctionType):
            yield value


def _has(module: nn.Module, name: str) -> bool:
    """Whether a module has such an attribute, without getting it: a property may run anything."""
    spaces = (*map(vars, type(module).__mro__), vars(module), module._parameters, module._buffers, module._modules)
    return any(name in space for space in spaces)


def _names(code: CodeType) -> Iterator[str]:
    """The names of globals and attributes in a function, and in the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _reached(module: nn.Module, function: FunctionType, names: set[str]) -> Iterator[Any]:
    """What these names are in the module, in the function's globals and closure, and in the modules of Python there.

    Read from dictionaries: asking a module of Python for an attribute may import others.
    """
    values = [space[name] for space in (vars(module), function.__globals__) for name in names if name in space]
    for cell in function.__closure__ or ():
        try:
            values.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    opened: set[ModuleType] = set()
    while values:
        value = values.pop()
        if isinstance(value, functools.partial):
            value = value.func
        if not isinstance(value, ModuleType):
            yield value
        elif value not in opened:
            opened.add(value)
            values += [vars(value)[name] for name in names if name in vars(value)]
