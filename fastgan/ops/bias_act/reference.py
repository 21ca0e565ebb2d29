"""bias_act in plain PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops._common.activations import ACTIVATIONS, defaults
from fastgan.ops._common.layout import along
from fastgan.ops.bias_act.backends import BiasActConfig


def bias_act_reference(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`bias_act` in plain PyTorch: the oracle and the fallback."""
    alpha, gain = defaults(act, alpha, gain)
    if b is not None:
        x = x + along(b.to(x.dtype), dim % x.ndim, x.ndim)
    return _scaled_and_clamped(ACTIVATIONS[act].f(x, alpha), gain, clamp)


def _scaled_and_clamped(y: Tensor, gain: float, clamp: float | None) -> Tensor:
    if gain != 1:
        y = y * gain
    if clamp is not None:
        y = F.hardtanh(y, -clamp, clamp)  # not torch.clamp, whose slope at the bounds is 1
    return y


def bias_act_grad2_reference(u: Tensor, dy: Tensor, saved: Tensor, b: Tensor | None, config: BiasActConfig) -> Tensor:
    """`operators.bias_act_grad2`, u dy p'(s), differentiable to any order."""
    row = ACTIVATIONS[config.act]
    assert row.curvature is not None
    s = saved
    if row.saves == "input":
        if b is not None:
            s = s + along(b.to(s.dtype), config.dim, s.ndim)
        y = config.gain * row.f(s, config.alpha)
        t = u * dy * config.gain * row.curvature(s, config.alpha)
    else:
        y = s
        t = u * dy * row.curvature(s / config.gain, config.alpha) if config.gain else u * dy * 0
    return t if config.clamp is None else torch.where(y.abs() >= config.clamp, 0, t)


def bias_act_eager(x: Tensor, b: Tensor, act: str, clamp: float | None) -> Tensor:
    """What the benchmarks call eager: the reference, but swish is F.silu, whatever that is at infinity."""
    if act != "swish":
        return bias_act_reference(x, b, act=act, clamp=clamp)
    return _scaled_and_clamped(F.silu(x + along(b, 1, x.ndim)), defaults(act, None, None)[1], clamp)
