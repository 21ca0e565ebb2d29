"""Rules for the other piecewise linear functions: each element has a frozen slope or is a frozen constant.

At a kink the slope is PyTorch's: zero for abs, hardtanh and threshold; for clamp it depends on PyTorch's version; for
prelu it is that of the negative side in the first derivative and of the positive side in the second (docs/kinks.md).
"""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.errors import NotAffineError
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Node, Scales, Slot, Value

aten = torch.ops.aten


def absolute(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """|x|; its slope at 0 is 0."""
    value = recorder.value(args[0])
    node = Masked(value, args[0].detach().sign(), None)
    return recorder.add(node, func(*args, **kwargs), value.batch)


class Masked(Node):
    """y = slope * x + s * constant, elementwise."""

    def __init__(self, x: Value, slope: Tensor, constant: Tensor | None) -> None:
        super().__init__([x])
        self.slope, self.constant = slope, constant

    def _apply(self, x: Tensor) -> Tensor:
        return torch.where(self.slope, x, 0) if self.slope.dtype == torch.bool else x * self.slope

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return (self._apply(delta),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        y, s = self._apply(us[0]), scales.along(self.output)
        return y if s is None or self.constant is None else torch.addcmul(y, s, self.constant)


class Halved(Masked):
    """One whose slope may be one half; what has the slope 0 is left out, be it infinite."""

    def _apply(self, x: Tensor) -> Tensor:
        return torch.where(self.slope == 0, 0, x * self.slope)


def _masked(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict, passes: Tensor) -> Tensor:
    """Records an operation that is x where `passes` and a constant elsewhere."""
    value = recorder.value(args[0])
    result = func(*args, **kwargs)
    constant = torch.where(passes, 0, result.detach())
    return recorder.add(Masked(value, passes, constant), result, value.batch)


def hardtanh(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    low, high = (*args[1:], -1.0, 1.0)[:2] if len(args) != 2 else (args[1], kwargs.get("max_val", 1.0))
    x = args[0].detach()
    return _masked(recorder, func, args, kwargs, (x > low) & (x < high))


def clamp(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    bounds = dict(zip(("self", "min", "max"), args, strict=False)) | kwargs
    x, low, high = args[0].detach(), bounds.get("min"), bounds.get("max")
    if any(recorder.find(bound) is not None for bound in (low, high)):
        raise NotAffineError("a bound of clamp depends on the input")
    if any(isinstance(bound, Tensor) and bound.requires_grad for bound in (low, high)):
        raise NotAffineError("a bound of clamp is a weight")
    if any(
        isinstance(bound, Tensor) and torch.broadcast_shapes(bound.shape, x.shape) != x.shape for bound in (low, high)
    ):
        raise NotAffineError("clamp by a larger tensor")
    return _clamped(recorder, func, args, kwargs, low, high)


def clamp_min(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return _clamped(recorder, func, args, kwargs, args[1], None)


def clamp_max(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return _clamped(recorder, func, args, kwargs, None, args[1])


def _clamped(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict, low: Any, high: Any) -> Tensor:
    """Records an operation that is x between two bounds, of which one may be None, and a bound elsewhere."""
    x, tensors = args[0].detach(), isinstance(low, Tensor) or isinstance(high, Tensor)
    slope = _slope_at_a_bound(tensors)
    closed = _between(x, low, high, torch.ge, torch.le)
    if slope == 1:
        return _masked(recorder, func, args, kwargs, closed)
    inside = _between(x, low, high, torch.gt, torch.lt)
    if slope == 0:
        return _masked(recorder, func, args, kwargs, inside)
    bounds_reached = sum((x == bound).to(x.dtype) for bound in (low, high) if bound is not None)
    slopes = torch.where(inside, 1, torch.where(closed, slope * bounds_reached, 0))
    value, result = recorder.value(args[0]), func(*args, **kwargs)
    constant = torch.where(slopes == 1, 0, result.detach() * (1 - slopes))
    return recorder.add(Halved(value, slopes, constant), result, value.batch)


def _between(x: Tensor, low: Any, high: Any, above: Any, below: Any) -> Tensor:
    passes = torch.ones_like(x, dtype=torch.bool)
    passes = passes if low is None else passes & above(x, low)
    return passes if high is None else passes & below(x, high)


@functools.cache
def _slope_at_a_bound(tensors: bool) -> float:
    """PyTorch's derivative of clamp at a bound: 1 until PyTorch 2.14; 2.15 has 0 for numbers and one half for tensors.

    Asked in a thread, whose autograd no mode and no recording sees; not at import, since on a GPU machine the first
    backward pass of a process starts threads that a fork would lose.
    """

    def slope() -> float:
        x = torch.ones(1, device="cpu", requires_grad=True)
        bound = torch.ones((), device="cpu") if tensors else 1.0
        (found,) = torch.autograd.grad(x.clamp(min=bound), x)
        return found.item()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(slope).result()


def threshold(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return _masked(recorder, func, args, kwargs, args[0].detach() > args[1])


def native_dropout(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> tuple[Tensor, Tensor]:
    """Dropout on a GPU: one operation that also returns its mask."""
    x, p, training = args
    value = recorder.value(x)
    result, mask = func(*args, **kwargs)
    factor = 1 / (1 - p) if training is not False and p < 1 else 1.0
    node = Masked(value, mask.to(x.dtype) * factor, None)
    return recorder.add(node, result, value.batch), mask


class Prelu(Node):
    """y = x where x is positive, else weight * x.

    Where x is 0 PyTorch's derivative is that of the negative side, and the derivative of the derivative that of the
    positive one. The latter is what T stands for: of a value, 0, it makes 0 with either.
    """

    def __init__(self, x: Value, at: Tensor, weight: Tensor, slot: Slot | None) -> None:
        super().__init__([x], (slot,))
        self.positive, self.not_negative, self.weight = at > 0, at >= 0, weight.detach()

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return (torch.where(self.positive, delta, delta * self.weight),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return torch.where(self.not_negative, us[0], us[0] * self.weight)

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        return (torch.where(self.not_negative, 0, us[0] * delta).sum_to_size(self.weight.shape),)


def prelu(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    x, weight = args
    value = recorder.find(x)
    if value is None or recorder.find(weight) is not None:
        raise NotAffineError("the slope of prelu depends on the input")
    node = Prelu(value, x.detach(), weight, recorder.slot(weight))
    return recorder.add(node, func(*args, **kwargs), value.batch)


RULES: dict[Any, Rule] = {
    aten.abs.default: absolute,
    aten.hardtanh.default: hardtanh,
    aten.clamp.default: clamp,
    aten.clamp.Tensor: clamp,
    aten.clamp_min.default: clamp_min,
    aten.clamp_max.default: clamp_max,
    aten.threshold.default: threshold,
    aten._prelu_kernel.default: prelu,
    aten.native_dropout.default: native_dropout,
}
