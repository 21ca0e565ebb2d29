"""Matrix products: linear layers and products with per-sample weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.affine.batch import Batch
from fastgan.affine.errors import NotAffineError
from fastgan.affine.linear import linear
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


def addmm(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    bias, x, weight = args
    value = recorder.find(x)
    if any(factor != 1 for factor in kwargs.values()):
        raise NotAffineError("addmm with factors")
    if value is None or recorder.find(weight) is not None or recorder.find(bias) is not None:
        raise NotAffineError("the weight or the bias of a matrix product depends on the input")
    _rows(value)
    node = Addmm(value, weight, bias, (recorder.slot(weight), recorder.slot(bias)))
    return recorder.add(node, func(*args, **kwargs), value.batch)


def mm(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    a, b = (recorder.find(t) for t in args)
    if a is not None and b is not None:
        raise NotAffineError("the product of two tensors that both depend on the input")
    if a is not None:
        _rows(a)
        node = Addmm(a, args[1], None, (recorder.slot(args[1]), None))
        return recorder.add(node, func(*args, **kwargs), a.batch)
    if b.batch.dim != 1:
        raise NotAffineError("a matrix product sums over the samples")
    return linear(recorder, func, args, kwargs, b.batch)


def _rows(value: Value) -> None:
    if value.batch.dim != 0:
        raise NotAffineError("a matrix product sums over the samples")


def bmm(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    a, b = (recorder.find(t) for t in args)
    if a is not None and b is not None:
        raise NotAffineError("the product of two tensors that both depend on the input")
    value, summed = (a, 2) if a is not None else (b, 1)
    if value.batch.dim == summed:
        raise NotAffineError("a matrix product sums over the samples")
    return linear(recorder, func, args, kwargs, value.batch)


def mv(recorder: Any, func: Any, args: tuple, kwargs: dict) -> Tensor:
    a, b = (recorder.find(t) for t in args)
    if b is not None or a is None:
        raise NotAffineError("a matrix-vector product sums over the samples")
    _rows(a)
    return linear(recorder, func, args, kwargs, Batch(0, a.batch.folded))


RULES = {aten.addmm.default: addmm, aten.mm.default: mm, aten.bmm.default: bmm, aten.mv.default: mv}
