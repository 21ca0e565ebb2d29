"""Rules for sums, differences and products with constants, with broadcasting."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.batch import broadcast
from fastgan.affine.errors import NotAffineError
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Bias, Node, Scales, Slot, Value

aten = torch.ops.aten


class Sum(Node):
    """y = the sum of factor * input over the inputs, + factor * constant."""

    def __init__(
        self,
        inputs: Sequence[Value],
        factors: Sequence[float],
        constant: Tensor | float | None = None,
        constant_factor: float = 1,
        slot: Slot | None = None,
    ) -> None:
        super().__init__(inputs, (), (slot,))
        self.factors = tuple(factors)
        self.constant = constant.detach() if isinstance(constant, Tensor) else constant
        self.constant_factor = constant_factor

    @property
    def pushes_new(self) -> bool:  # type: ignore[override]
        return len(self.inputs) > 1

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return [
            _times(delta, factor).sum_to_size(value.shape).to(value.dtype)
            for value, factor in zip(self.inputs, self.factors, strict=True)
        ]

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        y = _times(us[0], self.factors[0])
        for u, factor in zip(us[1:], self.factors[1:], strict=True):
            y = torch.add(y, u, alpha=factor)
        s = scales.along(self.output)
        if self.constant is not None and s is not None:
            y = torch.add(y, s * self.constant, alpha=self.constant_factor)
        if y.shape != self.output.shape:
            y = y.expand(self.output.shape)
        return y.to(self.output.dtype)

    def movable_bias(self) -> Bias | None:
        """One number for each channel, as in x + b.view(-1, 1, 1)."""
        b, shape = self.constant, self.output.shape
        alone = len(self.inputs) == 1 and self.factors == (1,) and self.constant_factor == 1
        if not alone or not isinstance(b, Tensor) or len(shape) < 2 or b.ndim < len(shape) - 1:
            return None
        if b.shape[1 - len(shape)] != b.numel() or self.inputs[0].shape != shape:
            return None
        return Bias(b.reshape(-1), self.constants[0])

    def leave_bias(self) -> None:
        self.constant, self.constants = None, ()
        self.does_nothing = self.inputs[0].dtype == self.output.dtype

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        assert s is not None
        assert isinstance(self.constant, Tensor)
        return (_times(delta * s, self.constant_factor).sum_to_size(self.constant.shape),)


class Product(Node):
    """y = x * constant, or x / constant."""

    def __init__(self, x: Value, constant: Tensor | float, divide: bool = False, slot: Slot | None = None) -> None:
        super().__init__([x], (slot,))
        self.constant = constant.detach() if isinstance(constant, Tensor) else constant
        self.divide = divide

    def _apply(self, x: Tensor) -> Tensor:
        return x / self.constant if self.divide else x * self.constant

    pulls_new = pushes_new = True

    def _over(self, x: Tensor) -> Tensor | None:
        """The product in the memory of x, where that is possible."""
        if isinstance(self.constant, Tensor) or self.inputs[0].dtype != self.output.dtype:
            return None
        return x.div_(self.constant) if self.divide else x.mul_(self.constant)

    def pull_over(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        product = self._over(delta)
        return self.pull(delta, scales) if product is None else (product,)

    def push_over(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        product = self._over(us[0])
        return self.push(us, scales) if product is None else product

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        (value,) = self.inputs
        return (self._apply(delta).sum_to_size(value.shape).to(value.dtype),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        return self._apply(us[0]).to(self.output.dtype)

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        assert isinstance(self.constant, Tensor)
        product = us[0] * delta
        if self.divide:  # d(x / c) = -x / c^2 dc
            product = -product / self.constant.square()
        return (product.sum_to_size(self.constant.shape),)


def _times(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else -x if factor == -1 else x * factor


def _sum(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict, terms: list[tuple[Any, float]]) -> Tensor:
    """Records func(*args) as a weighted sum of the terms."""
    result = func(*args, **kwargs)
    inputs = [(recorder.find(t), t, f) for t, f in terms]
    values = [v for v, _, _ in inputs if v is not None]
    constants = [(t, f) for v, t, f in inputs if v is None]
    constant, factor = constants[0] if constants else (None, 1)
    slot = recorder.slot(constant) if isinstance(constant, Tensor) else None
    node = Sum(values, [f for v, _, f in inputs if v is not None], constant, factor, slot)
    batch = broadcast([v.shape for v in values], [v.batch for v in values], result.ndim)
    return recorder.add(node, result, batch)


def add(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    alpha = args[2] if len(args) > 2 else kwargs.get("alpha", 1)
    return _sum(recorder, func, args, kwargs, [(args[0], 1), (args[1], alpha)])


def sub(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    alpha = args[2] if len(args) > 2 else kwargs.get("alpha", 1)
    return _sum(recorder, func, args, kwargs, [(args[0], 1), (args[1], -alpha)])


def rsub(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    alpha = args[2] if len(args) > 2 else kwargs.get("alpha", 1)
    return _sum(recorder, func, args, kwargs, [(args[0], -alpha), (args[1], 1)])


def neg(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    return _sum(recorder, func, args, kwargs, [(args[0], -1)])


def mul(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    a, b = args
    if recorder.find(a) is None:
        a, b = b, a
    if recorder.find(b) is not None:
        raise NotAffineError("the product of two tensors that both depend on the input")
    return _product(recorder, func, args, kwargs, a, b, divide=False)


def div(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    if kwargs.get("rounding_mode") is not None:
        raise NotAffineError("division with rounding")
    if recorder.find(args[1]) is not None:
        raise NotAffineError("division by a tensor that depends on the input")
    return _product(recorder, func, args, kwargs, args[0], args[1], divide=True)


def _product(
    recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict, x: Tensor, constant: Tensor | float, divide: bool
) -> Tensor:
    value = recorder.value(x)
    result = func(*args, **kwargs)
    slot = recorder.slot(constant) if isinstance(constant, Tensor) else None
    node = Product(value, constant, divide, slot)
    return recorder.add(node, result, broadcast([value.shape], [value.batch], result.ndim))


def lerp(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """start + weight (end - start), with a number as the weight: the fade-in of progressive growing."""
    start, end, weight = args
    return _sum(recorder, func, args, kwargs, [(start, 1 - weight), (end, weight)])


RULES: dict[Any, Rule] = {
    aten.add.Tensor: add,
    aten.add.Scalar: add,
    aten.sub.Tensor: sub,
    aten.sub.Scalar: sub,
    aten.rsub.Tensor: rsub,
    aten.rsub.Scalar: rsub,
    aten.neg.default: neg,
    aten.mul.Tensor: mul,
    aten.mul.Scalar: mul,
    aten.div.Tensor: div,
    aten.div.Scalar: div,
    aten.lerp.Scalar: lerp,
}
