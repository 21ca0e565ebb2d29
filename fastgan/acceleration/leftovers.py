"""Reports the layers that no swapper has looked at."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fastgan.acceleration.activations import ACTIVATION_KINDS
from fastgan.acceleration.convolutions import CONVOLUTIONS
from fastgan.acceleration.report import AccelerationReport
from fastgan.acceleration.substitute import base_class, parametrizations_of

_FUNCTIONS = (
    "its code names no function that fastgan replaces: functions it calls otherwise, with fastgan.accelerated()"
)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def name_leftovers(model: nn.Module, report: AccelerationReport) -> None:
    inside = {m for module in model.modules() for m in parametrizations_of(module)}
    for path, module in model.named_modules():
        kind = base_class(module)
        if report.knows(module) or module in inside or kind in _CONTAINERS:
            continue
        subclassed = next((known for known in (*CONVOLUTIONS, *ACTIVATION_KINDS) if issubclass(kind, known)), None)
        if isinstance(module, torch.jit.ScriptModule):
            report.add(path, module, kind.__name__, None, "compiled by TorchScript")
        elif any(is_lazy(p) for p in module._parameters.values()):
            report.add(path, module, kind.__name__, None, "has no weight yet: accelerate it after a forward pass")
        elif subclassed is not None:
            reason = f"a subclass of {subclassed.__name__}, which may compute something else; {_FUNCTIONS}"
            report.add(path, module, kind.__name__, None, reason)
        elif any(child not in inside for child in module.children()):
            continue  # its layers have rows of their own
        elif kind.__module__.startswith(("torch.nn.modules", "fastgan.")):
            report.add(path, module, kind.__name__, None, "nothing to replace")
        else:
            report.add(path, module, kind.__name__, None, f"unknown to fastgan; {_FUNCTIONS}")
