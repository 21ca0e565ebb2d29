"""Piecewise linear activations: the slope of each element is frozen as it was at x.

At a kink the slope is PyTorch's: that of the negative side for relu and leaky_relu, zero for hardtanh, one for clamp.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.errors import NotAffineError
from fastgan.affine.tape import Node, Scales, Slot, Value
from fastgan.ops.activations import ACTIVATIONS
from fastgan.ops.bias_act import _BiasAct

aten = torch.ops.aten

FUNCTIONS = frozenset({_BiasAct})


class Slopes(Node):
    """y = x where `positive`, else slope * x."""

    def __init__(self, x: Value, positive: Tensor, slope: float) -> None:
        super().__init__([x])
        self.positive, self.slope = positive, slope

    def _apply(self, x: Tensor) -> Tensor:
        return torch.where(self.positive, x, x * self.slope if self.slope else 0)

    def pull(self, delta: Tensor) -> Sequence[Tensor]:
        return (self._apply(delta),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return self._apply(us[0])


def _slopes(recorder: Any, func: Any, args: tuple, kwargs: dict, positive: Tensor, slope: float) -> Tensor:
    value = recorder.value(args[0])
    return recorder.add(Slopes(value, positive, slope), func(*args, **kwargs), value.batch)


def leaky_relu(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    slope = args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01)
    return _slopes(recorder, func, args, kwargs, args[0].detach() > 0, slope)


def relu(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return _slopes(recorder, func, args, kwargs, args[0].detach() > 0, 0)


def absolute(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
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

    def pull(self, delta: Tensor) -> Sequence[Tensor]:
        return (self._apply(delta),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        y, s = self._apply(us[0]), scales.along(self.output)
        return y if s is None or self.constant is None else torch.addcmul(y, s, self.constant)


def _masked(recorder: Any, func: Any, args: tuple, kwargs: dict, passes: Tensor) -> Tensor:
    """Records an operation that is x where `passes` and a constant elsewhere."""
    value = recorder.value(args[0])
    result = func(*args, **kwargs)
    constant = torch.where(passes, 0, result.detach())
    return recorder.add(Masked(value, passes, constant), result, value.batch)


def hardtanh(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    low, high = (*args[1:], -1.0, 1.0)[:2] if len(args) != 2 else (args[1], kwargs.get("max_val", 1.0))
    x = args[0].detach()
    return _masked(recorder, func, args, kwargs, (x > low) & (x < high))


def clamp(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    bounds = dict(zip(("self", "min", "max"), args, strict=False)) | kwargs
    x, low, high = args[0].detach(), bounds.get("min"), bounds.get("max")
    if any(recorder.find(bound) is not None for bound in (low, high)):
        raise NotAffineError("a bound of clamp depends on the input")
    if any(isinstance(bound, Tensor) and bound.requires_grad for bound in (low, high)):
        raise NotAffineError("a bound of clamp is a weight")
    passes = torch.ones_like(x, dtype=torch.bool)
    passes = passes if low is None else passes & (x >= low)
    passes = passes if high is None else passes & (x <= high)
    return _masked(recorder, func, args, kwargs, passes)


def clamp_min(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return _masked(recorder, func, args, kwargs, args[0].detach() >= args[1])


def clamp_max(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return _masked(recorder, func, args, kwargs, args[0].detach() <= args[1])


def threshold(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return _masked(recorder, func, args, kwargs, args[0].detach() > args[1])


class Prelu(Node):
    """y = x where `positive`, else weight * x."""

    def __init__(self, x: Value, positive: Tensor, weight: Tensor, slot: Slot | None) -> None:
        super().__init__([x], (slot,))
        self.positive, self.weight = positive, weight.detach()

    def _apply(self, x: Tensor) -> Tensor:
        return torch.where(self.positive, x, x * self.weight)

    def pull(self, delta: Tensor) -> Sequence[Tensor]:
        return (self._apply(delta),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return self._apply(us[0])

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        return (torch.where(self.positive, 0, us[0] * delta).sum_to_size(self.weight.shape),)


def prelu(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    x, weight = args
    value = recorder.find(x)
    if value is None or recorder.find(weight) is not None:
        raise NotAffineError("the slope of prelu depends on the input")
    node = Prelu(value, x.detach() > 0, weight, recorder.slot(weight))
    return recorder.add(node, func(*args, **kwargs), value.batch)


class BiasAct(Node):
    """y = clamp(gain * act(x + b)) with a piecewise linear act."""

    def __init__(
        self, x: Value, b: Tensor | None, slope: Tensor, constant: Tensor | None, dim: int, slot: Slot | None
    ) -> None:
        super().__init__([x], (slot,))
        self.b = None if b is None else b.detach()
        self.slope, self.constant, self.dim = slope, constant, dim

    def pull(self, delta: Tensor) -> Sequence[Tensor]:
        return (delta * self.slope,)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        u, s = us[0], scales.along(self.output)
        if s is not None and self.b is not None:
            u = u + s * self.b.to(u.dtype).view([-1 if d == self.dim else 1 for d in range(u.ndim)])
        y = u * self.slope
        return y if s is None or self.constant is None else torch.addcmul(y, s, self.constant)

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        if s is None:
            return (None,)
        return ((delta * self.slope * s).sum([d for d in range(delta.ndim) if d != self.dim]),)


def bias_act(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    x, b, dim, act, alpha, gain, clamp = args[:7]
    if ACTIVATIONS[act].curvature is not None:
        raise NotAffineError(f"bias_act with the activation {act} is not piecewise linear")
    value = recorder.find(x)
    if value is None or (b is not None and recorder.find(b) is not None):
        raise NotAffineError("the bias of bias_act depends on the input")
    if value.batch.dim == dim:
        raise NotAffineError("the bias of bias_act runs along the samples")
    result = func(*args, **kwargs)
    pre = x.detach()
    if b is not None:
        pre = pre + b.detach().to(x.dtype).view([-1 if d == dim else 1 for d in range(x.ndim)])
    below = gain * {"linear": 1.0, "relu": 0.0, "lrelu": alpha}[act]
    slope = torch.where(pre > 0, torch.tensor(gain, dtype=x.dtype), torch.tensor(below, dtype=x.dtype))
    constant = None
    if clamp is not None:
        reached = result.detach().abs() >= torch.tensor(clamp, dtype=x.dtype)
        slope = torch.where(reached, 0, slope)
        constant = torch.where(reached, result.detach(), 0)
    node = BiasAct(value, b, slope, constant, dim, None if b is None else recorder.slot(b))
    return recorder.add(node, result, value.batch)


RULES: dict[Any, Any] = {
    aten.leaky_relu.default: leaky_relu,
    aten.relu.default: relu,
    aten.abs.default: absolute,
    aten.hardtanh.default: hardtanh,
    aten.clamp.default: clamp,
    aten.clamp.Tensor: clamp,
    aten.clamp_min.default: clamp_min,
    aten.clamp_max.default: clamp_max,
    aten.threshold.default: threshold,
    aten._prelu_kernel.default: prelu,
    torch.ops.fastgan.bias_act.default: bias_act,
}
