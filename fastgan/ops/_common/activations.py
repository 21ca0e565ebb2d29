"""The one table of the activations that `bias_act` knows, with their slopes and curvatures.

Every activation y = gain * f(z) is differentiated through a single saved tensor s: the pre-activation z, or, where the
derivative is an accurate function of the result, the result itself (then a = y / gain = f(z) stands for s). The table
gives the slope h = f'(z) and its derivative h' with respect to s, both written in s.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


@dataclass(frozen=True)
class Activation:
    """One row of the table.

    Attributes:
        code: the number by which the compiled kernels know it (csrc/bias_act.h, kernels/bias_act.py).
        f: (z, alpha) -> f(z) in plain PyTorch.
        saves: what the slope is written in: "nothing" (constant slope), "result" or "input".
        curvature: (s, alpha) -> dh/ds in plain PyTorch, or None where it is zero almost everywhere.
        default_alpha: the negative slope of lrelu; None where the activation has no parameter.
        default_gain: what keeps the variance of a normal input, as in StyleGAN.
    """

    code: int
    f: Callable[[Tensor, float], Tensor]
    saves: str
    curvature: Callable[[Tensor, float], Tensor] | None = None
    default_alpha: float | None = None
    default_gain: float = 1.0


def _elu_curvature(z: Tensor, alpha: float) -> Tensor:
    return torch.where(z < 0, torch.exp(z.clamp(max=0)), 0.0)


def _selu_curvature(z: Tensor, alpha: float) -> Tensor:
    return SELU_SCALE * SELU_ALPHA * _elu_curvature(z, alpha)


def _softplus_curvature(z: Tensor, alpha: float) -> Tensor:
    return torch.sigmoid(z) * torch.sigmoid(-z)


SWISH_RANGE = 800.0
"""Beyond it swish is 0 or its argument to the last digit of float64, and so are its slopes 0 or 1."""


def _swish(z: Tensor, alpha: float) -> Tensor:
    """F.silu with its limits at infinity, where PyTorch's is NaN: -inf / inf, and in the slope inf * 0."""
    return torch.where(z > SWISH_RANGE, z, F.silu(z.clamp(-SWISH_RANGE, SWISH_RANGE)))


def _swish_curvature(z: Tensor, alpha: float) -> Tensor:
    z = z.clamp(-SWISH_RANGE, SWISH_RANGE)
    p, q = torch.sigmoid(z), torch.sigmoid(-z)
    return p * q * (2 + z * (q - p))


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(0, lambda z, alpha: z, "nothing"),
    "relu": Activation(1, lambda z, alpha: F.relu(z), "result", default_gain=math.sqrt(2)),
    "lrelu": Activation(2, F.leaky_relu, "result", default_alpha=0.2, default_gain=math.sqrt(2)),
    "tanh": Activation(3, lambda z, alpha: torch.tanh(z), "result", lambda a, alpha: -2 * a),
    "sigmoid": Activation(4, lambda z, alpha: torch.sigmoid(z), "result", lambda a, alpha: 1 - 2 * a),
    "elu": Activation(5, lambda z, alpha: F.elu(z), "input", _elu_curvature),
    "selu": Activation(6, lambda z, alpha: F.selu(z), "input", _selu_curvature),
    # softplus(z) = -log(sigmoid(-z)); F.softplus is linear above its threshold of 20, this one is exact everywhere.
    "softplus": Activation(7, lambda z, alpha: -F.logsigmoid(-z), "input", _softplus_curvature),
    "swish": Activation(8, _swish, "input", _swish_curvature, default_gain=math.sqrt(2)),
}
"""Name -> activation. All are twice differentiable almost everywhere; relu and lrelu are piecewise linear. What they
are at kinks: docs/kinks.md."""


class Activated(NamedTuple):
    """An activation with its parameter, the scale after it and the bound of the absolute value; None for no bound."""

    act: str
    alpha: float
    gain: float
    clamp: float | None


def defaults(act: str, alpha: float | None, gain: float | None) -> tuple[float, float]:
    """alpha and gain, or the activation's defaults where they are None."""
    row = ACTIVATIONS[act]
    alpha = row.default_alpha or 0.0 if alpha is None else float(alpha)
    return alpha, row.default_gain if gain is None else float(gain)


def resolved(op: str, act: str, alpha: float | None, gain: float | None, clamp: float | None) -> tuple[float, float]:
    """An activation's alpha and gain, with the defaults filled in.

    Raises:
        ValueError: act is not in the table, or one of the others is out of range; the message starts with `op`.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"{op}: act is {act!r}, expected one of {', '.join(ACTIVATIONS)}")
    if alpha is not None and ACTIVATIONS[act].default_alpha is None:
        raise ValueError(f"{op}: alpha is {alpha}, but {act} has no parameter: expected None")
    if alpha is not None and not alpha >= 0:
        raise ValueError(f"{op}: alpha is {alpha}, expected a slope >= 0")
    if clamp is not None and not clamp >= 0:
        raise ValueError(f"{op}: clamp is {clamp}, expected a bound >= 0 or None")
    return defaults(act, alpha, gain)
