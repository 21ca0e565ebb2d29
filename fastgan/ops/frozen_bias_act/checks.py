"""Checks of the arguments of frozen_bias_act and its relatives; messages name the function and the argument.

`op` is the function that was called, `name` the name of its large tensor there.
"""

from typing import Any

import torch
from torch import Tensor

from fastgan.ops._common.checks import check_floating
from fastgan.ops.frozen_bias_act.mask import ActivationMask, bytes_of_mask

FREEZABLE = ("linear", "relu", "lrelu")
"""The activations whose slope one bit tells."""


def check(op: str, name: str, x: Any, b: Any, dim: int, act: str, alpha: float | None, clamp: float | None) -> None:
    for label, tensor in ((name, x), ("b", b)):
        if tensor is None and label == "b":
            continue
        check_floating(op, label, tensor)
    if x.ndim == 0:
        raise ValueError(f"{op}: {name} has no dimensions, expected at least one")
    if not -x.ndim <= dim < x.ndim:
        raise ValueError(f"{op}: dim is {dim}, expected a dimension of {name}, which has {x.ndim}")
    if b is not None and (b.ndim != 1 or b.shape[0] != x.shape[dim]):
        raise ValueError(f"{op}: b has shape {list(b.shape)}, expected [{x.shape[dim]}] (dimension {dim} of {name})")
    if b is not None and b.device != x.device:
        raise ValueError(f"{op}: b is on {b.device}, expected {x.device} like {name}")
    if act not in FREEZABLE:
        raise ValueError(f"{op}: act is {act!r}, expected one of {', '.join(FREEZABLE)}")
    if alpha is not None and act != "lrelu":
        raise ValueError(f"{op}: alpha is {alpha}, but {act} has no parameter: expected None")
    if alpha is not None and not alpha >= 0:
        raise ValueError(f"{op}: alpha is {alpha}, expected a slope >= 0")
    if clamp is not None and not clamp >= 0:
        raise ValueError(f"{op}: clamp is {clamp}, expected a bound >= 0 or None")


def check_frozen(op: str, name: str, u: Tensor, s: Any, mask: Any) -> None:
    if not isinstance(mask, ActivationMask):
        raise TypeError(f"{op}: mask is {type(mask).__name__}, expected an ActivationMask of bias_act_with_mask")
    if len(mask.order) != u.ndim:
        raise ValueError(f"{op}: the mask is that of {len(mask.order)} dimensions, expected {u.ndim} like {name}")
    expected = (2 if mask.clamped else 1) * bytes_of_mask(u)
    if mask.bits.dtype != torch.uint8 or mask.bits.ndim != 1 or mask.bits.shape[0] != expected:
        found = f"{str(mask.bits.dtype).removeprefix('torch.')} {list(mask.bits.shape)}"
        raise ValueError(f"{op}: the bits of the mask are {found}, expected uint8 [{expected}] for this {name}")
    if mask.bits.device != u.device:
        raise ValueError(f"{op}: the mask is on {mask.bits.device}, expected {u.device} like {name}")
    if s is None:
        return
    check_floating(op, "s", s, "a floating-point tensor or None")
    if s.requires_grad:
        raise ValueError(f"{op}: s requires a gradient, but none flows to it: expected s.detach()")
    if s.ndim != 1 or u.shape[0] % max(s.shape[0], 1) != 0 or (s.shape[0] == 0 and u.shape[0] != 0):
        raise ValueError(f"{op}: s has shape {list(s.shape)}, expected [samples], a divisor of {u.shape[0]}")
    if s.device != u.device:
        raise ValueError(f"{op}: s is on {s.device}, expected {u.device} like {name}")


def refuse_autograd(op: str, **tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if torch.is_grad_enabled() and tensor is not None and tensor.requires_grad:
            raise RuntimeError(f"{op} is not differentiable, but {name} requires a gradient: use torch.no_grad()")
