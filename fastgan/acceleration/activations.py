"""Replaces activation modules; values and first derivatives stay torch's to the bit.

The piecewise linear ones are those of fastgan/ops/piecewise_linear.py, which compute with torch's kernels, save what
torch saves and may work in place as torch's: bit for bit the same, without the zeros of the second derivative. bias_act
would save the result of a leaky ReLU where torch saves its input, so that `h = act(x); h += x` would raise.

Of the smooth ones tanh is bias_act's, the same to rounding: forward and backward together took 0.4 of the time on a
CPU. The others are left, each for the reason below.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastgan.acceleration.calls import takes
from fastgan.acceleration.report import AccelerationReport
from fastgan.acceleration.substitute import as_torch, base_class, has_own_forward, replaces, substitute
from fastgan.ops import piecewise_linear
from fastgan.ops._common.autocast import autocasts
from fastgan.ops.bias_act import bias_act


@replaces(nn.LeakyReLU)
class LeakyReLU(nn.LeakyReLU):
    as_torch = as_torch(nn.LeakyReLU.forward)

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input)
        elif takes(input):
            return piecewise_linear.leaky_relu(input, self.negative_slope, self.inplace)
        else:
            return self.as_torch(input)


@replaces(nn.ReLU)
class ReLU(nn.ReLU):
    as_torch = as_torch(nn.ReLU.forward)

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input)
        elif takes(input):
            return piecewise_linear.relu(input, self.inplace)
        else:
            return self.as_torch(input)


@replaces(nn.PReLU)
class PReLU(nn.PReLU):
    as_torch = as_torch(nn.PReLU.forward)

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input)
        elif takes(input):
            return piecewise_linear.prelu(input, self.weight)
        else:
            return self.as_torch(input)


@replaces(nn.Hardtanh)
class Hardtanh(nn.Hardtanh):
    as_torch = as_torch(nn.Hardtanh.forward)

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input)
        elif takes(input):
            return piecewise_linear.hardtanh(input, self.min_val, self.max_val, self.inplace)
        else:
            return self.as_torch(input)


@replaces(nn.ReLU6)
class ReLU6(nn.ReLU6):
    as_torch = as_torch(nn.ReLU6.forward)

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input)
        elif takes(input):
            return piecewise_linear.relu6(input, self.inplace)
        else:
            return self.as_torch(input)


@replaces(nn.Tanh)
class Tanh(nn.Tanh):
    as_torch = as_torch(nn.Tanh.forward)

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return self.as_torch(input)
        elif takes(input):
            return bias_act(input, None, -1, "tanh", gain=1)
        else:
            return self.as_torch(input)


@replaces(nn.Softplus)
class Softplus(nn.Softplus):
    as_torch = as_torch(nn.Softplus.forward)

    def forward(self, input: Tensor) -> Tensor:
        # Autocast may make float32 of it.
        if torch.jit.is_scripting():
            return self.as_torch(input)
        elif takes(input) and not autocasts(input.device.type):
            return bias_act(input, None, -1, "softplus", gain=1)
        else:
            return self.as_torch(input)


_PIECEWISE: dict[type, type] = {
    nn.LeakyReLU: LeakyReLU, nn.ReLU: ReLU, nn.PReLU: PReLU, nn.Hardtanh: Hardtanh, nn.ReLU6: ReLU6,
}  # fmt: skip
_SMOOTH: dict[type, type] = {nn.Tanh: Tanh, nn.Softplus: Softplus}

_SLOWER = "alone, without a bias to add, bias_act's {} has a slower first derivative"

# Where exp(-z) is below the rounding of 1 in float64, so that the exact second derivative is 0 beside the slope of 1.
SOFTPLUS_THRESHOLD = 40


def _in_place(module: nn.Module) -> str | None:
    return "works in place" if module.inplace else None


def _elu(module: nn.Module) -> str | None:
    return _SLOWER.format("elu") if module.alpha == 1 else f"alpha is {module.alpha}, bias_act's elu has 1"


def _softplus(module: nn.Module) -> str | None:
    if module.beta != 1:
        return f"beta is {module.beta}, bias_act's softplus has 1"
    if not module.threshold >= SOFTPLUS_THRESHOLD:  # type: ignore[operator]
        return f"above its threshold of {module.threshold} PyTorch's second derivative is 0, bias_act's is exact"
    return None


_WHY_NOT: dict[type, Callable[[nn.Module], str | None]] = {
    nn.ELU: _elu,
    nn.SELU: lambda module: _SLOWER.format("selu"),
    nn.Softplus: _softplus,
    nn.Sigmoid: lambda module: "alone, without a bias to add, bias_act's sigmoid is not faster",
    nn.SiLU: lambda module: _SLOWER.format("swish"),
    nn.Hardtanh: _in_place,
    nn.ReLU6: _in_place,
}


ACTIVATION_KINDS: tuple[type, ...] = tuple({**_PIECEWISE, **_SMOOTH, **_WHY_NOT})
"""The classes of activations that are replaced, or left for a known reason."""


def swap_activations(model: nn.Module, report: AccelerationReport) -> None:
    for path, module in model.named_modules():
        kind = base_class(module)
        if kind in _PIECEWISE.values() or kind in _SMOOTH.values():
            report.add(path, module, kind.__name__, _becomes(kind), "already")
        if kind not in ACTIVATION_KINDS:
            continue
        reason = "its instance has a forward of its own" if has_own_forward(module) else None
        if reason is None and kind in _WHY_NOT:
            reason = _WHY_NOT[kind](module)
        if reason is not None:
            report.add(path, module, kind.__name__, None, reason)
            continue
        replacement = _PIECEWISE.get(kind) or _SMOOTH[kind]
        substitute(module, replacement)
        report.add(path, module, kind.__name__, _becomes(replacement))


def _becomes(replacement: type) -> str:
    return "bias_act" if replacement in _SMOOTH.values() else "piecewise_linear"
