"""`lean_derivatives`: fastgan's convolutions, leaky ReLU and attention, for cheap second derivatives."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from fastgan._torch_private import (
    DeviceContext,
    checkpoint_behind,
    function_mode_count,
    function_modes,
    top_saved_tensors_hooks,
)
from fastgan.ops import convolution, piecewise_linear
from fastgan.ops.attention import functional as attention

_OURS: dict[Callable[..., Any], Callable[..., Any]] = {
    **convolution.BY_TORCH_FUNCTION,
    **piecewise_linear.BY_TORCH_FUNCTION,
    **attention.BY_TORCH_FUNCTION,
}
REPLACED = _OURS.keys()
"""torch's functions that `lean_derivatives` replaces."""

_KEYWORDS = {ours: frozenset(inspect.signature(ours).parameters) for ours in _OURS.values()}

_PLAIN = {torch.Tensor, torch.nn.Parameter}


class lean_derivatives(TorchFunctionMode):  # noqa: N801 (a context manager)
    """Inside, convolutions, leaky ReLUs and attention called through torch or torch.nn are fastgan's.

    PyTorch's second derivative of a leaky ReLU is a tensor of zeros, which drags another backward pass through the
    network; that of a grouped convolution is a convolution for each group; its fused attention has none.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        ours = _OURS.get(func)
        # torch's know more keywords, such as `out` and NumPy's names; a subclass of Tensor may mean something else.
        if ours is None or not _KEYWORDS[ours].issuperset(kwargs) or not _PLAIN.issuperset(types):
            return func(*args, **kwargs)
        if mode_wants_torch_functions():
            return func(*args, **kwargs)
        if not torch.compiler.is_compiling():
            _also_when_again()
        return ours(*args, **kwargs)


def _also_when_again() -> None:
    """Lets a checkpointed region that is running compute the same when it runs again, in the backward pass."""
    hooks = top_saved_tensors_hooks(False)
    run = None if hooks is None else checkpoint_behind(hooks[0])
    if run is not None and not isinstance(run.recompute_fn, _Lean):
        run.recompute_fn = _Lean(run.recompute_fn)


class _Lean:
    """A function that is called with fastgan's functions in the place of torch's."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        with lean_derivatives():
            return self.function(*args)


def replaceable(function: Any) -> bool:
    """Whether it is one of those functions; takes anything, also what has no hash."""
    return any(function is theirs for theirs in REPLACED)


def mode_wants_torch_functions() -> bool:
    """Whether a function mode is active, besides the default device's and ours, to which torch's functions must go."""
    if not function_mode_count():
        return False
    return any(not isinstance(mode, (DeviceContext, lean_derivatives)) for mode in function_modes())
