"""Rules for matrix products: linear layers and products with per-sample weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.batch import BatchDim
from fastgan.affine.errors import NotAffineError
from fastgan.affine.linear import linear
from fastgan.affine.rule import Rule, RuleRecorder
from fastgan.affine.tape import Bias, Node, Scales, Slot, Value

aten = torch.ops.aten


class Addmm(Node):
    """y = x w + b for x with the samples in its rows; also without b."""

    pulls_new = pushes_new = True

    def __init__(self, x: Value, weight: Tensor, bias: Tensor | None, slots: tuple[Slot | None, Slot | None]) -> None:
        super().__init__([x], slots[:1], slots[1:])
        self.weight = weight.detach()
        self.bias = None if bias is None else bias.detach()

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return (delta @ self.weight.t(),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        s = scales.along(self.output)
        if self.bias is None or s is None:
            return us[0] @ self.weight
        return torch.addmm(s * self.bias.to(s.dtype), us[0], self.weight)

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        # In the memory order of the weight: a linear layer's is the transpose of its parameter.
        return ((delta.t() @ us[0]).t() if self.weight.stride(0) == 1 else us[0].t() @ delta,)

    def constant_gradients(self, delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        s = scales.along(self.output)
        assert s is not None
        assert self.bias is not None
        return ((delta * s).sum_to_size(self.bias.shape),)

    def movable_bias(self) -> Bias | None:
        return None if self.bias is None else Bias(self.bias, self.constants[0])

    def leave_bias(self) -> None:
        self.bias, self.constants = None, ()


class Addmv(Addmm):
    """y = x w + b for a vector w, with the samples in the rows of x; b is one number, or one for each row."""

    def pull(self, delta: Tensor, scales: Scales) -> Sequence[Tensor]:
        return (torch.outer(delta, self.weight),)

    def push(self, us: Sequence[Tensor], scales: Scales) -> Tensor:
        s = scales.along(self.output)
        if self.bias is None or s is None:
            return us[0] @ self.weight
        return torch.addmv(s * self.bias.to(s.dtype), us[0], self.weight)

    def weight_gradients(self, us: Sequence[Tensor], delta: Tensor, scales: Scales) -> Sequence[Tensor | None]:
        return (us[0].t() @ delta,)


def addmm(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    bias, x, weight = args
    value = recorder.find(x)
    if any(factor != 1 for factor in kwargs.values()):
        raise NotAffineError("addmm with factors")
    if value is None or recorder.find(weight) is not None or recorder.find(bias) is not None:
        raise NotAffineError("the weight or the bias of a matrix product depends on the input")
    _rows(value)
    node = Addmm(value, weight, bias, (recorder.slot(weight), recorder.slot(bias)))
    return recorder.add(node, func(*args, **kwargs), value.batch)


def mm(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    a = recorder.find(args[0])
    if a is None:
        b = recorder.value(args[1])
        if b.batch.dim != 1:
            raise NotAffineError("a matrix product sums over the samples")
        return linear(recorder, func, args, kwargs, b.batch)
    _one_factor(recorder, args)
    _rows(a)
    node = Addmm(a, args[1], None, (recorder.slot(args[1]), None))
    return recorder.add(node, func(*args, **kwargs), a.batch)


def _one_factor(recorder: RuleRecorder, factors: tuple) -> None:
    """Raises NotAffineError for a product whose second factor, like its first, depends on the input."""
    if recorder.find(factors[1]) is not None:
        raise NotAffineError("the product of two tensors that both depend on the input")


def _rows(value: Value) -> None:
    if value.batch.dim != 0:
        raise NotAffineError("a matrix product sums over the samples")


def bmm(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    value, summed = recorder.find(args[0]), 2
    if value is None:
        value, summed = recorder.value(args[1]), 1
    else:
        _one_factor(recorder, args)
    if value.batch.dim == summed:
        raise NotAffineError("a matrix product sums over the samples")
    return linear(recorder, func, args, kwargs, value.batch)


def mv(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    a, b = (recorder.find(t) for t in args)
    if b is not None or a is None:
        raise NotAffineError("a matrix-vector product sums over the samples")
    _rows(a)
    return linear(recorder, func, args, kwargs, BatchDim(0, a.batch.folded))


def addmv(recorder: RuleRecorder, func: Any, args: tuple, kwargs: dict) -> Tensor:
    """b + x w for x with the samples in its rows: a linear layer with one output."""
    bias, x, weight = args
    if any(factor != 1 for factor in kwargs.values()):
        raise NotAffineError("addmv with factors")
    value = recorder.find(x)
    if value is None or recorder.find(weight) is not None or recorder.find(bias) is not None:
        raise NotAffineError("the weight or the bias of a matrix-vector product depends on the input")
    _rows(value)
    node = Addmv(value, weight, bias, (recorder.slot(weight), recorder.slot(bias)))
    return recorder.add(node, func(*args, **kwargs), BatchDim(0, value.batch.folded))


RULES: dict[Any, Rule] = {
    aten.addmm.default: addmm,
    aten.mm.default: mm,
    aten.bmm.default: bmm,
    aten.mv.default: mv,
    aten.addmv.default: addmv,
}
