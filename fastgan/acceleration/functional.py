"""Replaces torch's functions inside of layers and models that call them in their forward, with weights of their own.

Such a module gets a subclass of its class, whose call runs the original's inside of a function mode that puts
fastgan's functions in the place of torch's. The outermost such module enters it for those in it.

It is the call that is another, not the forward: TorchScript compiles the forward that was written.
"""

import copyreg
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fastgan._torch_private import function_modes, top_saved_tensors_hooks
from fastgan.acceleration.calls import plain_pass
from fastgan.acceleration.foreign import REBUILT_BY, subclass, why_no_subclass
from fastgan.acceleration.functions import accelerated
from fastgan.acceleration.named_functions import named_functions
from fastgan.acceleration.report import AccelerationReport
from fastgan.acceleration.substitute import (
    base_class,
    is_around,
    parametrizations_of,
    substitute,
)
from fastgan.penalties.lean import REPLACED, lean_derivatives
from fastgan.penalties.modules import AROUND

_MADE: dict[type, type[nn.Module]] = {}


class _Inside(accelerated):
    """`accelerated` within one module's call, but for what may be run again without it.

    A checkpoint in there runs its function once more in the backward pass, where no mode is active, and must save then
    what it saved first. Its hooks on saved tensors tell; a module that it calls has a mode of its own, both times.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hooks = top_saved_tensors_hooks(False)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        # Most are not ours: attributes of tensors come here, too.
        if torch.compiler.is_compiling() or func not in REPLACED or top_saved_tensors_hooks(False) != self.hooks:
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)


def _is_inside() -> bool:
    """Whether what runs here has its functions replaced already."""
    hooks = top_saved_tensors_hooks(False)
    modes = [mode for mode in function_modes() if isinstance(mode, lean_derivatives)]
    return any(not isinstance(mode, _Inside) or mode.hooks == hooks for mode in modes)


def _around(kind: Any) -> type[nn.Module]:
    """The subclass of a class, replaced or not, in whose calls torch's functions are fastgan's."""
    if kind in _MADE:
        return _MADE[kind]

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if plain_pass() or _is_inside():
            return kind.__call__(self, *args, **kwargs)
        with _Inside():
            return kind.__call__(self, *args, **kwargs)

    arguments = vars(kind).get(REBUILT_BY, (copyreg.__newobj__, (kind,)))  # type: ignore[attr-defined]
    return _MADE.setdefault(kind, subclass(kind, AROUND, {"__call__": call}, _rebuild, arguments))


def _rebuild(rebuild: Callable[..., nn.Module], arguments: tuple) -> nn.Module:
    module = rebuild(*arguments)
    module.__class__ = _around(type(module))
    return module


def swap_functional(model: nn.Module, report: AccelerationReport) -> None:
    parts = {m for module in model.modules() for m in parametrizations_of(module)}
    for path, module in model.named_modules():
        kind = base_class(module)
        if module in parts or report.knows(module) or not _is_open(module):
            continue
        names = named_functions(module)
        if not names:
            continue
        became: str | None = f"fastgan's {', '.join(names)} in its calls"
        reason = "already" if is_around(module) else why_no_subclass(module)
        if not reason:
            substitute(module, _around(kind))
        elif reason != "already":
            became = None
        report.add(path, module, kind.__name__, became, reason)


def _is_open(module: nn.Module) -> bool:
    """Whether the module runs code of its own in Python, and can be called."""
    return not (
        base_class(module).__module__.startswith(("torch.", "fastgan."))
        or isinstance(module, torch.jit.ScriptModule)
        or any(is_lazy(p) for p in module._parameters.values() if p is not None)
    )
