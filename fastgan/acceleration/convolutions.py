"""Replaces convolution modules by subclasses over fastgan/ops/convolution.py, with cheaper second derivatives."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fastgan._torch_private import conv1d_forward, conv2d_forward, conv3d_forward
from fastgan.acceleration.calls import takes
from fastgan.acceleration.report import AccelerationReport
from fastgan.acceleration.substitute import as_torch, base_class, has_own_forward, replaces, substitute
from fastgan.ops import convolution


def _forward(module: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    function = _FUNCTIONS[len(module.kernel_size)]
    return function(input, weight, bias, module.stride, module.padding, module.dilation, module.groups)


def _transposed(module: Any, input: Tensor, bias: Tensor | None, output_size: list[int] | None = None) -> Tensor:
    n = len(module.kernel_size)
    ends = module._output_padding(
        input, output_size, module.stride, module.padding, module.kernel_size, n, module.dilation
    )
    function = _TRANSPOSED[n]
    return function(input, module.weight, bias, module.stride, module.padding, ends, module.groups, module.dilation)


@replaces(nn.Conv1d)
class Conv1d(nn.Conv1d):
    as_torch = as_torch(conv1d_forward)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input, weight, bias)
        elif _takes(self, input):
            return _forward(self, input, weight, bias)
        else:
            return self.as_torch(input, weight, bias)


@replaces(nn.Conv2d)
class Conv2d(nn.Conv2d):
    as_torch = as_torch(conv2d_forward)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input, weight, bias)
        elif _takes(self, input):
            return _forward(self, input, weight, bias)
        else:
            return self.as_torch(input, weight, bias)


@replaces(nn.Conv3d)
class Conv3d(nn.Conv3d):
    as_torch = as_torch(conv3d_forward)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input, weight, bias)
        elif _takes(self, input):
            return _forward(self, input, weight, bias)
        else:
            return self.as_torch(input, weight, bias)


@replaces(nn.ConvTranspose1d)
class ConvTranspose1d(nn.ConvTranspose1d):
    as_torch = as_torch(nn.ConvTranspose1d.forward)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input, output_size)
        elif _takes(self, input):
            return _transposed(self, input, self.bias, output_size)
        else:
            return self.as_torch(input, output_size)


@replaces(nn.ConvTranspose2d)
class ConvTranspose2d(nn.ConvTranspose2d):
    as_torch = as_torch(nn.ConvTranspose2d.forward)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input, output_size)
        elif _takes(self, input):
            return _transposed(self, input, self.bias, output_size)
        else:
            return self.as_torch(input, output_size)


@replaces(nn.ConvTranspose3d)
class ConvTranspose3d(nn.ConvTranspose3d):
    as_torch = as_torch(nn.ConvTranspose3d.forward)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input, output_size)
        elif _takes(self, input):
            return _transposed(self, input, self.bias, output_size)
        else:
            return self.as_torch(input, output_size)


_FUNCTIONS = {1: convolution.conv1d, 2: convolution.conv2d, 3: convolution.conv3d}
_TRANSPOSED = {1: convolution.conv_transpose1d, 2: convolution.conv_transpose2d, 3: convolution.conv_transpose3d}

ORDINARY: dict[type, type] = {nn.Conv1d: Conv1d, nn.Conv2d: Conv2d, nn.Conv3d: Conv3d}
TRANSPOSED: dict[type, type] = {
    nn.ConvTranspose1d: ConvTranspose1d, nn.ConvTranspose2d: ConvTranspose2d, nn.ConvTranspose3d: ConvTranspose3d,
}  # fmt: skip
CONVOLUTIONS = {**ORDINARY, **TRANSPOSED}


def _takes(module: Any, input: Any) -> bool:
    return module.padding_mode == "zeros" and takes(input)


def without_bias(module: Any, x: Tensor) -> Tensor:
    """A replaced convolution's output without its bias."""
    if base_class(module) in TRANSPOSED.values():
        return _transposed(module, x, None)
    return _forward(module, x, module.weight, None)


def swap_convolutions(model: nn.Module, report: AccelerationReport) -> None:
    for path, module in model.named_modules():
        kind = base_class(module)
        parametrized = " below its parametrization" if parametrize.is_parametrized(module) else ""
        if kind in CONVOLUTIONS.values():
            report.add(path, module, kind.__name__, f"convolution{parametrized}", "already")
        if kind not in CONVOLUTIONS:
            continue
        if has_own_forward(module):
            report.add(path, module, kind.__name__, None, "its instance has a forward of its own")
        elif module.padding_mode != "zeros":
            report.add(path, module, kind.__name__, None, f"padding_mode is {module.padding_mode!r}")
        else:
            substitute(module, CONVOLUTIONS[kind])
            report.add(path, module, kind.__name__, f"convolution{parametrized}")
