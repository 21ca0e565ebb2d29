"""Replaces minibatch standard deviation layers of other code bases by fastgan.ops.minibatch_stddev.

Of a batch that is no multiple of the group StyleGAN2's layer makes an error, others make other groups: only multiples,
and batches smaller than a group, are taken over.
"""

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
from fastgan.ops.minibatch_stddev import minibatch_stddev

_GROUP = ("group_size", "stddev_group", "group")
_CHANNELS = ("num_channels", "num_new_features", "stddev_feat")
_LARGEST = 1024  # group that is verified
_OURS = "_fastgan_minibatch_stddev"  # marks the classes that are made here
_MADE: dict[tuple[Any, Settings], type[nn.Module]] = {}


def _suggested(kind: type) -> bool:
    """Whether the name of a class says that it is such a layer: MinibatchStdLayer, MinibatchStdDev, Minibatch_Std."""
    folded = kind.__name__.lower().replace("_", "")
    return "minibatch" in folded and "std" in folded.split("minibatch", 1)[1]


def _sizes(module: nn.Module) -> tuple[int | None, int] | None:
    """The group (None: the whole batch) and the number of channels that the attributes name; None if they are others.

    A layer without the one compares the whole batch, without the other it appends one channel.
    """
    group, channels = (_first(module, names, default) for names, default in ((_GROUP, None), (_CHANNELS, 1)))
    if type(channels) is not int or channels < 1 or (group is not None and (type(group) is not int or group < 1)):
        return None
    return group, channels


def _first(module: nn.Module, names: tuple[str, ...], default: Any) -> Any:
    return next((getattr(module, name) for name in names if hasattr(module, name)), default)


def _named(module: nn.Module) -> bool:
    """Whether a module has attributes for both numbers."""
    return all(any(hasattr(module, name) for name in names) for names in (_GROUP, _CHANNELS))


def _replacement(kind: Any, settings: Settings) -> type[nn.Module]:
    """The subclass of a foreign layer with such attributes; where they have changed since, the original runs."""
    key = kind, settings
    if key in _MADE:
        return _MADE[key]

    def forward(self: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        ours = (torch.compiler.is_compiling() or takes(x)) and not autocasts(x.device.type)
        sizes = _sizes(self)
        if args or kwargs or not ours or sizes is None or not _fits(x, *sizes) or not has_settings(self, settings):
            return kind.forward(self, x, *args, **kwargs)
        return minibatch_stddev(x.contiguous(), *sizes)  # as is torch.cat with what was repeated over the pixels

    return _MADE.setdefault(key, subclass(kind, _OURS, {"forward": forward}, _rebuild, key))


def _rebuild(kind: type[nn.Module], settings: Settings) -> nn.Module:
    replacement = _replacement(kind, settings)
    return replacement.__new__(replacement)


def _fits(x: Tensor, group: int | None, channels: int) -> bool:
    """Whether the batch is of a verified kind: whole groups, or part of one group."""
    if x.ndim != 4 or x.shape[0] == 0 or x.shape[1] == 0 or x.shape[1] % channels != 0:
        return False
    return group is None or x.shape[0] < group or x.shape[0] % group == 0


# --- verification -------------------------------------------------------------------------------------------------


def _verified(module: nn.Module) -> tuple[type[nn.Module] | None, str]:
    """The replacement that computes the same as the module, or the reason why there is none."""
    if module._buffers or module._parameters or module._modules:
        return None, "has parameters, buffers or layers in it, which a minibatch standard deviation has not"
    sizes = _sizes(module)
    if sizes is None:
        return None, "its group or number of channels is not an integer of at least 1"
    if sizes[0] is not None and sizes[0] > _LARGEST:
        return None, f"groups of {sizes[0]} are too large to be verified (at most {_LARGEST})"
    settings, reason = settings_of(module)
    if reason:
        return None, reason
    replacement = _replacement(type(module), settings)
    try:
        with verifying():
            error = _difference(module, replacement, *sizes)
    except Exception as exception:
        return None, f"could not be run on a copy in float64: {one_line(exception)}"
    if error <= TOLERANCE:
        return replacement, ""
    return None, f"looks like a minibatch standard deviation but computes something else (differs by {error:.1g})"


def _difference(module: nn.Module, replacement: type[nn.Module], group: int | None, channels: int) -> float:
    """The largest difference of output and gradients on copies, over batches, modes and deviations.

    Small deviations show what is added under the root, two channels for each statistic which of them go into it.
    """
    generator = torch.Generator().manual_seed(0)
    batches = {2, 3, 5} if group is None else {2, max(group - 1, 1), group, 2 * group, 3 * group}
    worst = 0.0
    for training in (True, False):
        for batch in sorted(batches):
            for scale in (1.0, 1e-3):
                x = scale * torch.randn(batch, 2 * channels, 3, 2, generator=generator, dtype=torch.float64)
                worst = max(worst, largest_difference(copy_of(module, training), replacement, x, generator))
    return worst


def swap_minibatch_stddev(model: nn.Module, report: AccelerationReport) -> None:
    for path, module in model.named_modules():
        kind = base_class(module)
        name = kind.__name__
        if kind.__module__.startswith(("torch.", "fastgan.")) or report.knows(module):
            continue
        if _OURS in kind.__dict__:
            report.add(path, module, name, "minibatch_stddev", "already")
        elif _suggested(kind) or (_named(module) and not module._parameters and not module._modules):
            replacement, reason = (
                (None, "its instance has a forward of its own") if has_own_forward(module) else _verified(module)
            )
            if replacement is not None:
                module.__class__ = replacement
            if replacement is not None or _suggested(kind):  # of another layer `name_leftovers` says that it is unknown
                report.add(path, module, name, "minibatch_stddev" if replacement else None, reason)
        elif module._modules and hasattr(module, "stddev_group"):
            reason = "its forward takes a minibatch standard deviation itself: call fastgan.ops.minibatch_stddev there"
            report.add(path, module, name, None, reason)
