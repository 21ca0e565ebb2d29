"""Replaces minibatch discrimination layers of other code bases by fastgan.ops.minibatch_discrimination."""

from typing import Any

import torch
from torch import Tensor, nn

from fastgan.acceleration.calls import takes
from fastgan.acceleration.foreign import (
    TOLERANCE,
    Settings,
    copy_of,
    has_settings,
    largest_difference,
    settings_of,
    subclass,
    verifying,
)
from fastgan.acceleration.report import AccelerationReport
from fastgan.acceleration.substitute import base_class, has_own_forward
from fastgan.errors import one_line
from fastgan.ops._common.autocast import autocasts
from fastgan.ops.minibatch_discrimination import minibatch_discrimination

_KERNELS = ("out_features", "num_kernels", "n_kernels", "nb_kernels", "B")
_DIMS = ("kernel_dims", "kernel_dim", "dim_per_kernel", "dims", "C")
_OURS = "_fastgan_minibatch"  # marks the classes that are made here
_MADE: dict[tuple[Any, float, Settings], type[nn.Module]] = {}


def _sizes(module: nn.Module) -> tuple[int, int, int] | None:
    """(A, B, C) of a layer with a parameter T of shape [A, B, C] or [A, B C]; None if it does not look like one."""
    T = module._parameters.get("T")
    if T is None or not T.is_floating_point() or T.ndim not in (2, 3):
        return None
    if T.ndim == 3:
        return T.shape[0], T.shape[1], T.shape[2]
    B, C = _first(module, _KERNELS), _first(module, _DIMS)
    return (T.shape[0], B, C) if B > 0 and T.shape[1] == B * C else None


def _first(module: nn.Module, names: tuple[str, ...]) -> int:
    for name in names:
        value = getattr(module, name, None)
        if isinstance(value, int):
            return value
    return 0


def _forward(module: Any, x: Tensor, itself: float) -> Tensor:
    A, B, C = _sizes(module)  # type: ignore[misc]
    o = minibatch_discrimination((x @ module.T.reshape(A, B * C)).view(-1, B, C))
    if itself:
        o = o + itself
    if getattr(module, "mean", False):
        o = o / (x.shape[0] - 1)
    return torch.cat([x, o], 1)


def _replacement(kind: Any, itself: float, settings: Settings) -> type[nn.Module]:
    """The subclass of a foreign layer with such attributes; where they have changed since, the original's forward runs.

    `itself` is what a sample's similarity to itself, exp(-0) = 1, adds to its sum.
    """
    key = kind, itself, settings
    if key in _MADE:
        return _MADE[key]

    def forward(self: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        ours = (torch.compiler.is_compiling() or takes(x)) and not autocasts(x.device.type)
        if args or kwargs or not ours or x.ndim != 2 or x.dtype != self.T.dtype or not has_settings(self, settings):
            return kind.forward(self, x, *args, **kwargs)
        return _forward(self, x, itself)

    return _MADE.setdefault(key, subclass(kind, _OURS, {"forward": forward}, _rebuild, key))


def _rebuild(kind: type[nn.Module], itself: float, settings: Settings) -> nn.Module:
    replacement = _replacement(kind, itself, settings)
    return replacement.__new__(replacement)


# --- verification -------------------------------------------------------------------------------------------------


def _verified(module: nn.Module) -> tuple[type[nn.Module] | None, str]:
    """The replacement that computes the same as the module, or the reason why there is none."""
    if module._buffers or len(module._parameters) != 1 or module._modules:
        return None, "has more in it than the parameter T"
    settings, reason = settings_of(module, apart=("mean",) if _mean_is_flag(module) else ())
    if reason:
        return None, reason
    errors = []
    for itself in (0.0, 1.0):
        replacement = _replacement(type(module), itself, settings)
        try:
            with verifying():
                error = _difference(module, replacement)
        except Exception as exception:
            return None, f"could not be run on a copy in float64: {one_line(exception)}"
        if error <= TOLERANCE:
            return replacement, ""
        errors.append(error)
    return None, f"looks like minibatch discrimination but computes something else (differs by {min(errors):.1g})"


def _mean_is_flag(module: nn.Module) -> bool:
    """Whether the layer divides by the batch where its attribute `mean` is true; it is verified for both."""
    return isinstance(getattr(module, "mean", None), bool)


def _difference(module: nn.Module, replacement: type[nn.Module]) -> float:
    """The largest difference of output and gradients on copies, over batches, modes and `mean`.

    T is drawn anew, for distances of order one: with an untrained one all similarities may be 0 and anything agrees.
    """
    A, _, C = _sizes(module)  # type: ignore[misc]
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    means = (False, True) if _mean_is_flag(module) else (None,)
    for mean in means:
        for training in (True, False):
            for batch in (2, 5):
                theirs = copy_of(module, training)
                if mean is not None:
                    theirs.mean = mean
                T = torch.randn(theirs.T.shape, generator=generator, dtype=torch.float64) / (C * A**0.5)
                theirs.T = nn.Parameter(T)
                x = torch.randn(batch, A, generator=generator, dtype=torch.float64)
                worst = max(worst, largest_difference(theirs, replacement, x, generator))
    return worst


def swap_minibatch_discrimination(model: nn.Module, report: AccelerationReport) -> None:
    for path, module in model.named_modules():
        kind = base_class(module)
        name = kind.__name__
        if _OURS in kind.__dict__:
            report.add(path, module, name, "minibatch_discrimination", "already")
        elif not kind.__module__.startswith(("torch.", "fastgan.")) and _sizes(module) is not None:
            replacement, reason = (
                (None, "its instance has a forward of its own") if has_own_forward(module) else _verified(module)
            )
            if replacement is not None:
                module.__class__ = replacement
            report.add(path, module, name, "minibatch_discrimination" if replacement else None, reason)
