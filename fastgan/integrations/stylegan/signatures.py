"""Compares a function's signature with its replacement's: forks keep names and change their meaning."""

import inspect
from collections.abc import Callable
from typing import Any

IGNORED = {"impl", "fused_modconv"}
"""Arguments that choose between implementations of the same function."""


def mismatch(original: Callable[..., Any], replacement: Callable[..., Any]) -> str | None:
    """Why a call of the original could mean something else to the replacement; None where every call means the same.

    The original's arguments must be the replacement's first, in the same order and with the same defaults.
    """
    ours = list(inspect.signature(replacement).parameters.values())
    theirs = list(inspect.signature(_undecorated(original)).parameters.values())
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in theirs):
        return "its arguments cannot be seen behind a decorator"
    for i, parameter in enumerate(theirs):
        if i >= len(ours) or parameter.name != ours[i].name:
            expected = ", ".join(p.name for p in ours)
            return f"another function by this name: argument {i} is {parameter.name}, expected ({expected})"
        optional = parameter.default is not parameter.empty and parameter.name not in IGNORED
        if optional and parameter.default != ours[i].default:
            return f"its default of {parameter.name} is {parameter.default!r}, expected {ours[i].default!r}"
    for parameter in ours[len(theirs) :]:
        if parameter.name not in IGNORED:
            return f"another function by this name: it has no argument {parameter.name}"
    return None


def _undecorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of the same name in a decorator's closure: NVIDIA's profiler wraps without functools.wraps."""
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    inner = [f for f in cells if inspect.isfunction(f) and f.__name__ == getattr(function, "__name__", None)]
    return inner[0] if len(inner) == 1 else function
