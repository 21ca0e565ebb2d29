"""Runs a convolution, its bias and an activation in an nn.Sequential in two passes over memory, not three.

The pair is found in each call of the Sequential, and only that call knows of it: the convolution runs without its bias,
`bias_act` adds it. Whoever calls one of the two modules alone (another layer that shares it, `net[0](x)`, a slice, a
loop over the layers that collects features) gets what it gets from torch's; a hook that comes later separates the pair.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan._torch_private import call_is_forward, has_hooks_on_every_module
from fastgan.acceleration.calls import plain_pass, takes
from fastgan.acceleration.convolutions import CONVOLUTIONS, without_bias
from fastgan.acceleration.report import AccelerationReport
from fastgan.acceleration.substitute import as_torch, base_class, has_own_forward, replaces, substitute, torch_class
from fastgan.ops.bias_act import bias_act

BIAS_IS_FREE = frozenset({"cpu"})
"""Devices whose convolutions and matrix products add the bias as they write: bias_act would save nothing."""

# torch's activation -> the name in bias_act's table. softplus is not quite torch's: see activations.py.
_ACTS: dict[type, str] = {
    nn.LeakyReLU: "lrelu", nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.SiLU: "swish",
}  # fmt: skip

_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.GroupNorm, nn.LayerNorm,
)  # fmt: skip
_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_READS_ONLY = frozenset({*CONVOLUTIONS, nn.Linear, *_NORMS, *_POOLS, *_ACTS})
_PASSES_ON = frozenset({nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout2d, nn.Dropout3d})


@replaces(nn.Sequential)
class Sequential(nn.Sequential):
    as_torch = as_torch(nn.Sequential.forward)

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input)
        elif _may_pair(input):
            return _in_pairs(list(_flat(self)), input)
        else:
            return self.as_torch(input)


def _may_pair(input: Any) -> bool:
    free = isinstance(input, Tensor) and input.device.type in BIAS_IS_FREE
    return not (free or plain_pass() or has_hooks_on_every_module())


def _in_pairs(modules: list[nn.Module], input: Any) -> Any:
    i = 0
    while i < len(modules):
        if _is_pair(modules, i) and _why_apart(modules, i) is None and takes(input):
            input = _together(modules[i], modules[i + 1], input)
            i += 2
        else:
            input = modules[i](input)
            i += 1
    return input


def _flat(sequential: nn.Sequential) -> Iterator[nn.Module]:
    """The modules of a Sequential, with those of Sequentials inside it."""
    for module in sequential:
        if type(module) in (nn.Sequential, Sequential) and call_is_forward(module):
            yield from _flat(module)  # type: ignore[arg-type]
        else:
            yield module


def _is_pair(modules: list[nn.Module], i: int) -> bool:
    """Whether modules i and i + 1 are a layer with a bias and an activation that bias_act knows."""
    return (
        i + 1 < len(modules)
        and torch_class(modules[i + 1]) in _ACTS
        and (base_class(modules[i]) in CONVOLUTIONS.values() or torch_class(modules[i]) is nn.Linear)
        and modules[i].bias is not None
        and getattr(modules[i], "padding_mode", "zeros") == "zeros"
    )


def _why_apart(modules: list[nn.Module], i: int) -> str | None:
    """The reason why a pair cannot run in one pass; None if it can."""
    first, act = modules[i : i + 2]
    if not (call_is_forward(first) and call_is_forward(act)):
        return "a hook may see what is between them"
    if torch_class(act) is nn.LeakyReLU:
        if not act.negative_slope >= 0:  # type: ignore[operator]
            return f"negative_slope is {act.negative_slope}, bias_act takes no negative one"
        # torch's saves its input then, bias_act the result, as a leaky ReLU in place does.
        if not act.inplace and not _only_read(modules, i + 2):
            return "the result may be changed in place, which a leaky ReLU allows and bias_act does not"
    return None


def _only_read(modules: list[nn.Module], i: int) -> bool:
    """Whether what is given to module i is certainly not changed in place."""
    for module in modules[i:]:
        kind = torch_class(module)
        if not call_is_forward(module) or getattr(module, "inplace", False):
            return False
        if kind not in _PASSES_ON:
            return kind in _READS_ONLY
    return False  # it leaves the Sequential


def _together(first: Any, act: Any, x: Tensor) -> Tensor:
    if torch_class(first) is nn.Linear:
        y, dim = F.linear(x, first.weight), -1
    else:
        y, dim = without_bias(first, x), -1 - len(first.kernel_size)  # x may have no batch dimension
    name = _ACTS[torch_class(act)]
    return bias_act(y, first.bias, dim, name, act.negative_slope if name == "lrelu" else None, gain=1)


def swap_sequentials(model: nn.Module, report: AccelerationReport) -> None:
    inner = {
        child
        for module in model.modules()
        if type(module) in (nn.Sequential, Sequential)
        for child in module.children()
        if type(child) in (nn.Sequential, Sequential) and call_is_forward(child)
    }
    names = {module: path for path, module in model.named_modules()}
    seen: set[tuple[nn.Module, nn.Module]] = set()
    for module in model.modules():
        if type(module) not in (nn.Sequential, Sequential) or has_own_forward(module):
            continue
        modules = list(_flat(module))  # type: ignore[arg-type]
        found = [i for i in range(len(modules)) if _is_pair(modules, i)]
        together = [i for i in found if _why_apart(modules, i) is None]
        if together:
            substitute(module, Sequential)
        # A Sequential in a Sequential runs as part of the outer one, which sees what follows it.
        for i in found if module not in inner else together:
            pair = modules[i], modules[i + 1]
            if pair in seen:
                continue
            seen.add(pair)
            path = " + ".join(names[m] for m in pair)
            kind = " + ".join(torch_class(m).__name__ for m in pair)
            why = _why_apart(modules, i)
            on = f"not on {', '.join(sorted(BIAS_IS_FREE))}, where adding the bias is free" if BIAS_IS_FREE else ""
            report.add(path, module, kind, None if why else "bias_act in one pass", why or on)
